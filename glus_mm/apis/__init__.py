"""The few calls that most programs need: build a model, segment a video."""

from glus_mm.apis.glus_inferencer import GLUSInferencer
from glus_mm.apis.init_model import init_model
from glus_mm.apis.pretrained import resolve_checkpoint
from glus_mm.apis.rle_mask_sequence import RLEMaskSequence
from glus_mm.apis.segment_job import SegmentJob

__all__ = ['GLUSInferencer', 'RLEMaskSequence', 'SegmentJob', 'init_model', 'resolve_checkpoint']
