"""The model that a config describes, without values: what names and shapes it has."""

import torch
from accelerate import init_empty_weights
from mmengine import Config
from torch import nn

from glus_mm.registry import MODELS, SCOPE


def empty_model(cfg: Config) -> nn.Module:
    """Build a model whose parameters have no data.

    Args:
        cfg: a config with ``model``.

    Returns:
        The model; its buffers are real.

    Raises:
        TypeError: a part does not know a key of its config.
        ValueError: a value cannot be used.
    """
    model = dict(cfg.model)
    model.setdefault('_scope_', cfg.get('default_scope') or SCOPE)
    # Buffers with random values are made too; the caller's generator goes on as if they were not.
    with torch.random.fork_rng(devices=[]), init_empty_weights(include_buffers=False):
        return MODELS.build(model)
