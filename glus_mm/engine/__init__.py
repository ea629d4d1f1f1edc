"""What runs around the model: hooks and the form of checkpoints."""

from glus_mm.engine.hooks import (
    PlainCheckpointHook,
    RefVOSVisualizationHook,
    ResumeSamplerHook,
    TokenBankHook,
)

__all__ = ['PlainCheckpointHook', 'RefVOSVisualizationHook', 'ResumeSamplerHook', 'TokenBankHook']
