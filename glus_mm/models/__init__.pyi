from .data_preprocessor import RefVOSDataPreprocessor
from .heads import (
    EdgeTAMHead,
    MemoryBank,
    MemoryHead,
    SAM2MemoryHead,
    Sam3TrackerHead,
    TokenUpdate,
)
from .losses import (
    GroundingLoss,
    MaskBCELoss,
    MaskDiceLoss,
    MaskIoULoss,
    MotionLoss,
    ObjectContrastiveLoss,
    TokenBank,
    TokenCELoss,
)
from .mllms import BaseMLLM, ChatUniViMLLM, LlavaMLLM
from .propagators import (
    BasePropagator,
    FoldPropagator,
    GLUSPropagator,
    KeyMaskPropagator,
    MaskTracker,
    OneTokenPropagator,
    SAM2Propagator,
)
from .segmentors import GLUS, SAM2Pretrainer, VisionPretrainer
from .selectors import (
    BaseKeyFrameSelector,
    FileKeyFrameSelector,
    FirstFrameSelector,
    KeyFrames,
    KeyFrameSelector,
)

__all__ = [
    'GLUS', 'BaseKeyFrameSelector', 'BaseMLLM', 'BasePropagator', 'ChatUniViMLLM', 'EdgeTAMHead',
    'FileKeyFrameSelector', 'FirstFrameSelector', 'FoldPropagator', 'GLUSPropagator',
    'GroundingLoss', 'KeyFrames', 'KeyFrameSelector', 'KeyMaskPropagator', 'LlavaMLLM',
    'MaskBCELoss', 'MaskDiceLoss', 'MaskIoULoss', 'MaskTracker', 'MemoryBank', 'MemoryHead',
    'MotionLoss', 'ObjectContrastiveLoss', 'OneTokenPropagator', 'RefVOSDataPreprocessor',
    'SAM2MemoryHead', 'Sam3TrackerHead', 'SAM2Pretrainer', 'SAM2Propagator', 'TokenBank',
    'TokenCELoss', 'TokenUpdate', 'VisionPretrainer'
]
