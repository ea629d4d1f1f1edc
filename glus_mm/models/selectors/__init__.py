"""Key-frame selectors."""

from glus_mm.models.selectors.base_key_frame_selector import BaseKeyFrameSelector, KeyFrames
from glus_mm.models.selectors.file_key_frame_selector import FileKeyFrameSelector
from glus_mm.models.selectors.first_frame_selector import FirstFrameSelector

__all__ = ['BaseKeyFrameSelector', 'FileKeyFrameSelector', 'FirstFrameSelector', 'KeyFrames']
