"""Key-frame selectors."""

from glus_mm.models.selectors.base_key_frame_selector import BaseKeyFrameSelector, KeyFrames
from glus_mm.models.selectors.file_key_frame_selector import FileKeyFrameSelector
from glus_mm.models.selectors.first_frame_selector import FirstFrameSelector
from glus_mm.models.selectors.key_frame_selector import KeyFrameSelector
from glus_mm.models.selectors.key_frame_selector_cfg import KeyFrameSelectorCfg
from glus_mm.models.selectors.reference_frames import reference_frames

__all__ = ['BaseKeyFrameSelector', 'FileKeyFrameSelector', 'FirstFrameSelector', 'KeyFrameSelector',
           'KeyFrameSelectorCfg', 'KeyFrames', 'reference_frames']
