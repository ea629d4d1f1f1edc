"""How masks get from the key frame to the other frames."""

from glus_mm.models.propagators.base_propagator import BasePropagator
from glus_mm.models.propagators.fold_propagator import FoldPropagator
from glus_mm.models.propagators.glus_propagator import GLUSPropagator
from glus_mm.models.propagators.one_token_propagator import OneTokenPropagator

__all__ = ['BasePropagator', 'FoldPropagator', 'GLUSPropagator', 'OneTokenPropagator']
