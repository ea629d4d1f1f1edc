"""Models of glus_mm; importing this registers all of them."""

from glus_mm.models.data_preprocessor import RefVOSDataPreprocessor
from glus_mm.models.heads import MemoryBank, SAM2MemoryHead
from glus_mm.models.losses import (
    MaskBCELoss,
    MaskDiceLoss,
    ObjectContrastiveLoss,
    TokenBank,
    TokenCELoss,
)
from glus_mm.models.mllms import BaseMLLM, LlavaMLLM
from glus_mm.models.segmentors import GLUS, SAM2Pretrainer

__all__ = [
    'GLUS', 'BaseMLLM', 'LlavaMLLM', 'MaskBCELoss', 'MaskDiceLoss', 'MemoryBank',
    'ObjectContrastiveLoss', 'RefVOSDataPreprocessor', 'SAM2MemoryHead', 'SAM2Pretrainer',
    'TokenBank', 'TokenCELoss'
]
