"""Models that MMEngine's runner trains and tests."""

from glus_mm.models.segmentors.glus import GLUS
from glus_mm.models.segmentors.sam2_pretrainer import SAM2Pretrainer

__all__ = ['GLUS', 'SAM2Pretrainer']
