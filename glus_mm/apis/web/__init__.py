"""What a web demo needs besides its page: limits, jobs, results, temporary files, a gate."""

from glus_mm.apis.web.segmentation_result import SegmentationResult
from glus_mm.apis.web.segmentation_run import Preview
from glus_mm.apis.web.segmentation_service import SegmentationService
from glus_mm.apis.web.temporary_store import TemporaryStore
from glus_mm.apis.web.thinned_reader import ThinnedReader, open_limited_video
from glus_mm.apis.web.web_gate import WebGate
from glus_mm.apis.web.web_input_error import WebInputError
from glus_mm.apis.web.web_limits import WebLimits

__all__ = [
    'Preview', 'SegmentationResult', 'SegmentationService', 'TemporaryStore', 'ThinnedReader',
    'WebGate', 'WebInputError', 'WebLimits', 'open_limited_video'
]
