"""How masks get from the key frame to the other frames."""

from glus_mm.models.propagators.base_propagator import BasePropagator
from glus_mm.models.propagators.fold_propagator import FoldPropagator
from glus_mm.models.propagators.glus_propagator import GLUSPropagator
from glus_mm.models.propagators.key_mask_propagator import KeyMaskPropagator, MaskTracker
from glus_mm.models.propagators.one_token_propagator import OneTokenPropagator
from glus_mm.models.propagators.sam2_propagator import SAM2Propagator, SAM2Tracker

__all__ = [
    'BasePropagator', 'FoldPropagator', 'GLUSPropagator', 'KeyMaskPropagator', 'MaskTracker',
    'OneTokenPropagator', 'SAM2Propagator', 'SAM2Tracker'
]
