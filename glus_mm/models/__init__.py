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
from glus_mm.models.mllms import BaseMLLM, BaseVideoQA, ChatUniViMLLM, LlavaMLLM
from glus_mm.models.propagators import BasePropagator, GLUSPropagator
from glus_mm.models.segmentors import GLUS, SAM2Pretrainer
from glus_mm.models.selectors import (
    BaseKeyFrameSelector,
    FileKeyFrameSelector,
    FirstFrameSelector,
    KeyFrames,
    KeyFrameSelector,
    VideoQASelector,
)

__all__ = [
    'GLUS', 'BaseKeyFrameSelector', 'BaseMLLM', 'BasePropagator', 'BaseVideoQA', 'ChatUniViMLLM',
    'FileKeyFrameSelector', 'FirstFrameSelector', 'GLUSPropagator', 'KeyFrames',
    'KeyFrameSelector', 'LlavaMLLM', 'MaskBCELoss', 'MaskDiceLoss', 'MemoryBank',
    'ObjectContrastiveLoss', 'RefVOSDataPreprocessor', 'SAM2MemoryHead', 'SAM2Pretrainer',
    'TokenBank', 'TokenCELoss', 'VideoQASelector'
]
