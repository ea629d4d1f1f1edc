"""What runs around the model: hooks and the form of checkpoints."""

from glus_mm.engine import checkpoint_loaders  # noqa: F401 - takes the place of MMEngine's
from glus_mm.engine.hooks import (
    DataErrorHook,
    FinishedVideosHook,
    FiniteLossHook,
    PreemptionHook,
    QuantizeHook,
    RefVOSVisualizationHook,
    ResumeSamplerHook,
    SafeCheckpointHook,
    TokenBankHook,
)
from glus_mm.engine.memory_log_processor import MemoryLogProcessor
from glus_mm.engine.unwrapped import Unwrapped

__all__ = [
    'DataErrorHook', 'FinishedVideosHook', 'FiniteLossHook', 'MemoryLogProcessor',
    'SafeCheckpointHook', 'PreemptionHook', 'QuantizeHook', 'RefVOSVisualizationHook',
    'ResumeSamplerHook', 'TokenBankHook', 'Unwrapped'
]
