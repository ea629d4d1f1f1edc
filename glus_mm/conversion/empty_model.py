"""The model that a config describes, without values: what names and shapes it has."""

import torch
from accelerate import init_empty_weights
from huggingface_hub.errors import StrictDataclassError
from mmengine import Config
from omegaconf.errors import OmegaConfBaseException
from torch import nn

from glus_mm.registry import MODELS, SCOPE

# What the libraries raise that build a model's parts.
_ERRORS = (KeyError, OmegaConfBaseException, StrictDataclassError, TypeError,
           ValueError)


def empty_model(cfg: Config, where: str) -> nn.Module:
    """Build a model whose parameters have no data.

    Args:
        cfg: a config with ``model``.
        where: where its values came from, for the message.

    Returns:
        The model; its buffers are real.

    Raises:
        ValueError: a key is not known, or a value cannot be used.
    """
    if not isinstance(cfg.get('model'), dict) or 'type' not in cfg.model:
        raise ValueError(f'expected a config with model = dict(type=...), got '
                         f'{cfg.get("model")!r}: {where}')
    model = dict(cfg.model)
    model.setdefault('_scope_', cfg.get('default_scope') or SCOPE)
    # Buffers with random values are made too; the caller's generator goes on as if they were not.
    with torch.random.fork_rng(devices=[]), init_empty_weights(include_buffers=False):
        try:
            return MODELS.build(model)
        except _ERRORS as error:
            raise ValueError(f'{where}: expected a model, but building it fails with: '
                             f'{error}') from error
