"""Models that MMEngine's runner trains and tests."""

from glus_mm.models.segmentors.glus import GLUS
from glus_mm.models.segmentors.pretrainers import SAM2Pretrainer, VisionPretrainer

__all__ = ['GLUS', 'SAM2Pretrainer', 'VisionPretrainer']
