"""Key-frame selectors."""

from glus_mm.models.selectors.base_key_frame_selector import (
           BaseKeyFrameSelector,
           FileKeyFrameSelector,
           FirstFrameSelector,
           KeyFrames,
           reference_frames,
)
from glus_mm.models.selectors.key_frame_selector import KeyFrameSelector, KeyFrameSelectorCfg
from glus_mm.utils.deprecation import moved

__all__ = ['BaseKeyFrameSelector', 'FileKeyFrameSelector', 'FirstFrameSelector', 'KeyFrameSelector',
           'KeyFrameSelectorCfg', 'KeyFrames', 'reference_frames']

__getattr__ = moved(__name__, 'video_qa', '0.2', ('VideoQACfg', 'VideoQASelector'))
