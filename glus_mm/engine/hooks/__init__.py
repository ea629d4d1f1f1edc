"""Hooks of glus_mm, registered in ``HOOKS``."""

from glus_mm.engine.finished_videos import FinishedVideosHook
from glus_mm.engine.hooks.data_error_hook import DataErrorHook
from glus_mm.engine.hooks.finite_loss_hook import FiniteLossHook
from glus_mm.engine.hooks.preemption_hook import PreemptionHook
from glus_mm.engine.hooks.quantize_hook import QuantizeHook
from glus_mm.engine.hooks.resume_sampler_hook import ResumeSamplerHook
from glus_mm.engine.hooks.safe_checkpoint_hook import SafeCheckpointHook
from glus_mm.engine.hooks.token_bank_hook import TokenBankHook
from glus_mm.engine.hooks.visualization_hook import RefVOSVisualizationHook

__all__ = [
    'DataErrorHook', 'FinishedVideosHook', 'FiniteLossHook', 'SafeCheckpointHook',
    'PreemptionHook', 'QuantizeHook', 'RefVOSVisualizationHook', 'ResumeSamplerHook',
    'TokenBankHook'
]
