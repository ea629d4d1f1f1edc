from .glus_inferencer import GLUSInferencer
from .initialization import init_model
from .live_stream import LiveFrame, LiveStream, LiveText
from .pretrained import resolve_checkpoint
from .refinement_session import RefinementSession
from .segment_job import LiveJob, SegmentJob
from .segmentation import IncompleteVideoError, RLEMaskSequence, Segmentation

__all__ = [
    'GLUSInferencer', 'IncompleteVideoError', 'init_model', 'LiveFrame', 'LiveJob', 'LiveStream',
    'LiveText', 'RefinementSession', 'resolve_checkpoint', 'RLEMaskSequence', 'Segmentation',
    'SegmentJob'
]
