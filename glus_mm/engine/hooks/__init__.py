"""Hooks of glus_mm, registered in ``HOOKS``."""

from glus_mm.engine.hooks.plain_checkpoint_hook import PlainCheckpointHook

__all__ = ['PlainCheckpointHook']
