"""Key-frame selectors."""

from glus_mm.models.selectors.base_key_frame_selector import (
           BaseKeyFrameSelector,
           FileKeyFrameSelector,
           FirstFrameSelector,
           KeyFrames,
           reference_frames,
)
from glus_mm.models.selectors.key_frame_selector import KeyFrameSelector, KeyFrameSelectorCfg
from glus_mm.models.selectors.video_qa_selector import VideoQACfg, VideoQASelector

__all__ = ['BaseKeyFrameSelector', 'FileKeyFrameSelector', 'FirstFrameSelector', 'KeyFrameSelector',
           'KeyFrameSelectorCfg', 'KeyFrames', 'VideoQACfg', 'VideoQASelector', 'reference_frames']
