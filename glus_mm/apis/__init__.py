"""The few calls that most programs need: build a model, segment a video."""

from glus_mm.apis.glus_inferencer import GLUSInferencer
from glus_mm.apis.incomplete_video_error import IncompleteVideoError
from glus_mm.apis.init_model import init_model
from glus_mm.apis.live_frame import LiveFrame, LiveText
from glus_mm.apis.live_stream import LiveStream
from glus_mm.apis.pretrained import resolve_checkpoint
from glus_mm.apis.rle_mask_sequence import RLEMaskSequence
from glus_mm.apis.segment_job import SegmentJob

__all__ = [
    'GLUSInferencer', 'IncompleteVideoError', 'init_model', 'LiveFrame', 'LiveStream', 'LiveText',
    'resolve_checkpoint', 'RLEMaskSequence', 'SegmentJob'
]
