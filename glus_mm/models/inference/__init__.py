"""Inference state and its bounds: readers, caches, sessions."""

from glus_mm.models.inference.caches import BoundedCache
from glus_mm.models.inference.frame_reader import (
                                                   ArrayReader,
                                                   FrameReader,
                                                   ImageFolderReader,
                                                   SpooledReader,
                                                   VideoFileReader,
                                                   open_reader,
)
from glus_mm.models.inference.test_cfg import GLUSTestCfg
from glus_mm.models.inference.video_session import MaskPrediction, VideoSession

__all__ = [
    'ArrayReader', 'BoundedCache', 'FrameReader', 'GLUSTestCfg', 'ImageFolderReader',
    'MaskPrediction', 'SpooledReader', 'VideoFileReader', 'VideoSession', 'open_reader'
]
