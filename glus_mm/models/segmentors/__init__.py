"""Models that MMEngine's runner trains and tests."""

from glus_mm.models.segmentors.glus import GLUS
from glus_mm.models.segmentors.sam2_pretrainer import SAM2Pretrainer
from glus_mm.models.segmentors.vision_pretrainer import VisionPretrainer

__all__ = ['GLUS', 'SAM2Pretrainer', 'VisionPretrainer']
