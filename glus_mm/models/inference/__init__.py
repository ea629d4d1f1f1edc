"""Inference state and its bounds: readers, caches, sessions."""

from glus_mm.models.inference.background import map_in_thread
from glus_mm.models.inference.caches import BoundedCache
from glus_mm.models.inference.frame_error import FrameError, MissingFrameError
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
    'ArrayReader', 'BoundedCache', 'FrameError', 'FrameReader', 'GLUSTestCfg', 'ImageFolderReader',
    'MaskPrediction', 'MissingFrameError', 'SpooledReader', 'VideoFileReader', 'VideoSession',
    'map_in_thread', 'open_reader'
]
