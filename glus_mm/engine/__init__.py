"""What runs around the model: hooks and the form of checkpoints."""

from glus_mm.engine.hooks import (
    DataErrorHook,
    FiniteLossHook,
    FinishedVideosHook,
    PlainCheckpointHook,
    QuantizeHook,
    RefVOSVisualizationHook,
    ResumeSamplerHook,
    TokenBankHook,
)
from glus_mm.engine.memory_log_processor import MemoryLogProcessor

__all__ = [
    'DataErrorHook', 'FiniteLossHook', 'FinishedVideosHook', 'MemoryLogProcessor',
    'PlainCheckpointHook', 'QuantizeHook', 'RefVOSVisualizationHook', 'ResumeSamplerHook', 'TokenBankHook'
]
