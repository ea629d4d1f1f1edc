"""Inference state and its bounds: readers, caches, sessions."""

from glus_mm.models.inference.background import map_in_thread
from glus_mm.models.inference.test_cfg import GLUSTestCfg
from glus_mm.models.inference.video_session import MaskPrediction, VideoSession
from glus_mm.utils.bounded_cache import BoundedCache
from glus_mm.video import (
    ArrayReader,
    FrameError,
    FrameReader,
    ImageFolderReader,
    MissingFrameError,
    SpooledReader,
    VideoFileReader,
    open_reader,
)

__all__ = [
    'ArrayReader', 'BoundedCache', 'FrameError', 'FrameReader', 'GLUSTestCfg', 'ImageFolderReader',
    'MaskPrediction', 'MissingFrameError', 'SpooledReader', 'VideoFileReader', 'VideoSession',
    'map_in_thread', 'open_reader'
]
