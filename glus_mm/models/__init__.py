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
from glus_mm.models.propagators import (
    BasePropagator,
    FoldPropagator,
    GLUSPropagator,
    KeyMaskPropagator,
    MaskTracker,
    OneTokenPropagator,
    SAM2Propagator,
)
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
    'FileKeyFrameSelector', 'FirstFrameSelector', 'FoldPropagator', 'GLUSPropagator',
    'KeyFrameSelector', 'KeyFrames', 'KeyMaskPropagator', 'LlavaMLLM', 'MaskBCELoss',
    'MaskDiceLoss', 'MaskTracker', 'MemoryBank', 'ObjectContrastiveLoss', 'OneTokenPropagator',
    'RefVOSDataPreprocessor', 'SAM2MemoryHead', 'SAM2Pretrainer', 'SAM2Propagator', 'TokenBank',
    'TokenCELoss', 'VideoQASelector'
]
