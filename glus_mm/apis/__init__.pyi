from .glus_inferencer import GLUSInferencer
from .incomplete_video_error import IncompleteVideoError
from .initialization import init_model
from .live_frame import LiveFrame, LiveText
from .live_job import LiveJob
from .live_stream import LiveStream
from .pretrained import resolve_checkpoint
from .refinement_session import RefinementSession
from .rle_mask_sequence import RLEMaskSequence
from .segment_job import SegmentJob
from .segmentation import Segmentation

__all__ = [
    'GLUSInferencer', 'IncompleteVideoError', 'init_model', 'LiveFrame', 'LiveJob', 'LiveStream',
    'LiveText', 'RefinementSession', 'resolve_checkpoint', 'RLEMaskSequence', 'Segmentation',
    'SegmentJob'
]
