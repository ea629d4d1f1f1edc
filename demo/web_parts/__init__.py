"""What the web demo needs besides its page: limits, jobs, results, temporary files, a gate."""

from web_parts.gate import WebGate
from web_parts.run import Preview, SegmentationResult
from web_parts.service import SegmentationService
from web_parts.store import TemporaryStore, WebInputError, WebLimits
from web_parts.video import ThinnedReader, open_limited_video

__all__ = [
    'Preview', 'SegmentationResult', 'SegmentationService', 'TemporaryStore', 'ThinnedReader',
    'WebGate', 'WebInputError', 'WebLimits', 'open_limited_video'
]
