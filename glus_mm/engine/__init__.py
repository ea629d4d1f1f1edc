"""What runs around the model: hooks and the form of checkpoints."""

from glus_mm.engine.hooks import (
    DataErrorHook,
    FiniteLossHook,
    PlainCheckpointHook,
    RefVOSVisualizationHook,
    ResumeSamplerHook,
    TokenBankHook,
)

__all__ = [
    'DataErrorHook', 'FiniteLossHook', 'PlainCheckpointHook', 'RefVOSVisualizationHook',
    'ResumeSamplerHook', 'TokenBankHook'
]
