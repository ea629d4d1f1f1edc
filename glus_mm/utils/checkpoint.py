"""Does a checkpoint fit a model? MMEngine only logs what does not, and goes on."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

MAX_LISTED = 30


def list_keys(title: str, keys: Iterable[str]) -> str:
    """Format keys for an error message, at most ``MAX_LISTED`` of them, one a line."""
    keys = list(keys)
    lines = [f'{title} ({len(keys)}):', *(f'  {key}' for key in keys[:MAX_LISTED])]
    if len(keys) > MAX_LISTED:
        lines.append(f'  ... and {len(keys) - MAX_LISTED} more')
    return '\n'.join(lines)


def model_state_of(checkpoint: Any, source: str) -> dict[str, torch.Tensor]:
    """The weights in a loaded checkpoint, under the names of an unwrapped model.

    Args:
        checkpoint: what ``torch.load`` gave: a state dict, or a dict with ``state_dict``.
        source: where it came from, for the error message.

    Returns:
        The state dict without the prefix ``module.`` that a parallel wrapper adds.

    Raises:
        ValueError: there is no state dict in it.
    """
    state = checkpoint.get('state_dict', checkpoint) if isinstance(checkpoint, Mapping) else None
    if not isinstance(state, Mapping) or not state or not all(
            isinstance(key, str) and isinstance(value, torch.Tensor)
            for key, value in state.items()):
        raise ValueError(f'expected a checkpoint with named tensors under "state_dict", '
                         f'got {type(checkpoint).__name__} without them: {source}')
    return {re.sub(r'^module\.', '', key): value for key, value in state.items()}


def check_fit(model: nn.Module, state: Mapping[str, torch.Tensor], source: str) -> list[str]:
    """Raise if a state dict does not fill a model.

    Args:
        model: the model, not wrapped.
        state: names and tensors.
        source: where the state came from, for the error message.

    Returns:
        Names that the model does not know. They are no error: a checkpoint of training may hold
        buffers that a model for inference lacks.

    Raises:
        ValueError: something is missing or has another shape; the message lists the keys.
    """
    own = model.state_dict()
    missing = [key for key in own if key not in state]
    unknown = [key for key in state if key not in own]
    shapes = [f'{key}: expected {tuple(value.shape)}, got {tuple(state[key].shape)}'
              for key, value in own.items()
              if key in state and isinstance(value, torch.Tensor)
              and value.shape != state[key].shape]
    if missing or shapes:
        parts = [f'the checkpoint does not fit the model {type(model).__name__}: {source}']
        parts += [list_keys(title, keys) for title, keys in (
            ('missing in the checkpoint', missing), ('other shape', shapes),
            ('unknown to the model', unknown)) if keys]
        raise ValueError('\n'.join(parts))
    return unknown
