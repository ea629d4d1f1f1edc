"""Does a checkpoint fit a model? MMEngine only logs what does not, and goes on."""

import logging
import re
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from mmengine.logging import print_log
from torch import nn

from glus_mm.utils.precision import is_adapter

MAX_LISTED = 30


class BadWeightsError(ValueError):
    """A checkpoint whose values can be nobody's weights."""


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
        ValueError: there is no state dict in it, or one with meta or sparse tensors.
    """
    state = checkpoint.get('state_dict', checkpoint) if isinstance(checkpoint, Mapping) else None
    if not isinstance(state, Mapping) or not state or not all(
            isinstance(key, str) and isinstance(value, torch.Tensor)
            for key, value in state.items()):
        raise ValueError(f'expected a checkpoint with named tensors under "state_dict", '
                         f'got {type(checkpoint).__name__} without them: {source}')
    # Of a meta tensor there are no values, and nothing here computes with sparse ones.
    other = [f'{key}: {"meta" if value.is_meta else value.layout}' for key, value in state.items()
             if value.is_meta or value.layout != torch.strided or value.is_quantized]
    if other:
        raise ValueError('\n'.join([
            f'expected dense tensors with values in the checkpoint {source}',
            list_keys('others', other)]))
    return {re.sub(r'^module\.', '', key): value for key, value in state.items()}


def adapt_lora(model: nn.Module, state: Mapping[str, torch.Tensor],
               source: str, quiet: bool = False) -> dict[str, torch.Tensor]:
    """Let a model with LoRA adapters start from weights without them.

    peft keeps the weights below an adapter as ``<layer>.base_layer.*``. The adapters stay at what
    the model has, at first the values that change nothing.

    Args:
        model: the model, not wrapped.
        state: names and tensors of :func:`model_state_of`.
        source: where the state came from, for messages.
        quiet: do not log that the adapters stay.

    Returns:
        The state dict under the model's names.

    Raises:
        ValueError: adapters in the file that the model lacks, or only a part of the model's.
    """
    own = model.state_dict()
    wanted = [key for key in own if is_adapter(key)]
    stored = [key for key in state if is_adapter(key)]
    unknown = [key for key in stored if key not in own]
    if unknown:
        raise ValueError('\n'.join([
            f'the checkpoint has LoRA adapters that the model {type(model).__name__} lacks: '
            f'{source}', list_keys('unknown to the model', unknown),
            'Use the config that it was trained with (model.mllm.lora), or merge the adapters '
            'into the weights with tools/misc/publish_model.py']))
    missing = [key for key in wanted if key not in state]
    if stored and missing:
        raise ValueError('\n'.join([
            f'the checkpoint has only some of the LoRA adapters of the model '
            f'{type(model).__name__}: {source}', list_keys('missing in the checkpoint', missing)]))
    if not missing:
        return dict(state)
    if not quiet:
        print_log(f'{source} has no LoRA adapters: the {len(missing)} adapter weights of the '
                  f'model keep the values that they have', 'current', logging.INFO)
    names = {key.replace('.base_layer.', '.'): key for key in own if '.base_layer.' in key}
    return {**{names.get(key, key): value for key, value in state.items()},
            **{key: own[key] for key in missing}}


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
        BadWeightsError: integers for what is a float; the message lists the keys.
        ValueError: something is missing or has another shape; likewise.
    """
    own = model.state_dict()
    missing = [key for key in own if key not in state]
    unknown = [key for key in state if key not in own]
    both = {key: (value, state[key]) for key, value in own.items()
            if key in state and isinstance(value, torch.Tensor)}
    shapes = [f'{key}: expected {tuple(value.shape)}, got {tuple(stored.shape)}'
              for key, (value, stored) in both.items() if value.shape != stored.shape]
    types = [f'{key}: expected {value.dtype}, got {stored.dtype}'
             for key, (value, stored) in both.items()
             if value.is_floating_point() != stored.is_floating_point() or stored.is_complex()]
    if types:
        raise BadWeightsError('\n'.join([
            f'the checkpoint has what cannot be weights of the model {type(model).__name__}: '
            f'{source}', list_keys('other type', types)]))
    if missing or shapes:
        parts = [f'the checkpoint does not fit the model {type(model).__name__}: {source}']
        parts += [list_keys(title, keys) for title, keys in (
            ('missing in the checkpoint', missing), ('other shape', shapes),
            ('unknown to the model', unknown)) if keys]
        raise ValueError('\n'.join(parts))
    return unknown


def check_finite(state: Mapping[str, torch.Tensor], source: str) -> None:
    """Raise if there is NaN or infinity in a state dict, all of which is read.

    Args:
        state: names and tensors.
        source: where they came from, for the error message.

    Raises:
        BadWeightsError: there is; the message lists the keys.
    """
    wild = [key for key, value in state.items()
            if isinstance(value, torch.Tensor) and not is_finite(value)]
    if wild:
        raise BadWeightsError('\n'.join([f'the checkpoint has what cannot be weights: {source}',
                                         list_keys('NaN or infinite', wild)]))


def is_finite(tensor: torch.Tensor) -> bool:
    """Whether a tensor, of any shape (...), has neither NaN nor infinity; no copy is made."""
    if not tensor.is_floating_point() or not tensor.numel():
        return True
    # NaN is both the least and the greatest.
    return bool(torch.stack(torch.aminmax(tensor)).isfinite().all())
