"""Build a model without weights and fill it from a file: no random start, no second copy."""

import logging
import zipfile
from collections import defaultdict
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from mmengine.logging import print_log
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef

from glus_mm.utils.base_weights import complete_state
from glus_mm.utils.checkpoint import adapt_lora, check_finite, check_fit, list_keys
from glus_mm.utils.checkpoint_files import read_checkpoint
from glus_mm.utils.precision import is_adapter


def build_empty(build: Callable[[], nn.Module]) -> nn.Module:
    """Build a model whose parameters have no data yet; buffers are real.

    Args:
        build: makes the model. A constructor that reads values of its own parameters cannot do so
            here; the model is then built with data, which only costs time and memory.

    Returns:
        The model, to be filled by :func:`fill_weights`.
    """
    draw = nn.init._no_grad_normal_

    def draw_data(tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return tensor if tensor.is_meta else draw(tensor, *args, **kwargs)

    # Tensors without data stay as they are; torch would import its compiler to draw nothing.
    nn.init._no_grad_normal_ = draw_data
    try:
        with init_empty_weights(include_buffers=False):
            return build()
    except (RuntimeError, NotImplementedError) as error:
        # What torch raises where data of meta tensors are asked for. Any other cause shows again.
        print_log(f'built with random weights first, as it cannot be built without: '
                  f'{str(error).splitlines()[0]}', 'current', logging.WARNING)
        return build()
    finally:
        nn.init._no_grad_normal_ = draw


def initialize_adapters(model: nn.Module) -> None:
    """Give LoRA adapters that have no data yet peft's initial values, which change nothing."""
    if not any(is_adapter(name) for name, _ in model.named_parameters()):
        return
    from peft.tuners.lora import LoraLayer

    for layer in model.modules():
        parts = [getattr(layer, name) for name in layer.adapter_layer_names] if isinstance(
            layer, LoraLayer) else []
        if any(p.is_meta for part in parts for p in part.parameters()):
            for part in parts:
                part.to_empty(device='cpu')
            for adapter in layer.r:
                layer.reset_lora_parameters(adapter, True)


def keeps_types(model: nn.Module, state: dict[str, Tensor]) -> bool:
    """Whether a state dict can become a model's weights as it is, without any copy.

    That is so where every tensor has the model's type and memory that no other one shares.
    """
    own = model.state_dict()
    known = {name: value for name, value in state.items() if name in own}
    storages = [value.untyped_storage() for value in known.values()]
    return all(value.dtype == own[name].dtype and value.is_contiguous()
               and value.untyped_storage().nbytes() == value.nbytes
               for name, value in known.items()) and \
        len({StorageWeakRef(storage) for storage in storages}) == len(storages)


def fill_weights(model: nn.Module, state: dict[str, Tensor], device: torch.device,
                 copy: bool = True) -> None:
    """Make a state dict the weights of a model, in the model's types; ``state`` is emptied.

    Args:
        model: from :func:`build_empty`. Its ``requires_grad`` flags stay, and parameters that are
            one stay one.
        state: all that the model's own state dict has, checked; more is left aside.
        device: where the weights go.
        copy: give each weight memory of its own. Mapped tensors need that: what happens to the
            file later would change them. False takes tensors as they are where type and device
            allow it, see :func:`keeps_types`.

    Raises:
        ValueError: something of the model still has no data; the message lists it.
    """
    names = defaultdict(list)
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names[StorageWeakRef(parameter.untyped_storage())].append(name)
    first = {name: tied[0] for tied in names.values() for name in tied}
    filled: dict[str, Tensor] = {}
    for name, own in model.state_dict().items():
        value = state.pop(name)
        source = first.get(name, name)
        if source in filled:
            filled[name] = filled[source]
            continue
        value = value.detach().to(device=device, dtype=own.dtype, copy=copy,
                                  memory_format=torch.contiguous_format)
        filled[name] = nn.Parameter(value, requires_grad=False) if name in first else value
    state.clear()
    model.load_state_dict(filled, assign=True)
    empty = [name for name, value in chain(model.named_parameters(), model.named_buffers())
             if value.is_meta]
    if empty:
        raise ValueError(list_keys(
            f'expected a model all of whose weights are in its state dict, but parts of '
            f'{type(model).__name__} have no data', empty))


def load_weights(model: nn.Module, path: Path, base: Path | None, device: torch.device) -> None:
    """Make a checkpoint the weights of a model; nothing of the file stays mapped.

    Args:
        model: from :func:`build_empty`, or one with weights, which are replaced.
        path: the checkpoint.
        base: the file that it shares weights with, where that is not where it says.
        device: where the weights go.

    Raises:
        FileNotFoundError: there is no base; the message names it.
        ValueError: it cannot be read, does not fit, or is not finite; the message lists the keys.
    """
    source = str(path)
    # A zip archive, torch's format since 1.6, is mapped: all is checked before any is read.
    mapped = zipfile.is_zipfile(path)
    state = complete_state(read_checkpoint(path, mapped), path, base)
    if not any(map(is_adapter, state)):
        initialize_adapters(model)
    state = adapt_lora(model, state, source)
    unknown = check_fit(model, state, source)
    if unknown:
        print_log(list_keys(f'not used from {path}', unknown), 'current', logging.INFO)
    as_stored = device.type == 'cpu' and keeps_types(model, state)
    if as_stored and mapped:
        # Beside their copies mapped weights would count as memory too; a second read has none.
        state = complete_state(read_checkpoint(path, mapped=False), path, base, verify=False,
                               mapped=False)
        state = adapt_lora(model, state, source, quiet=True)
    fill_weights(model, state, device, copy=not as_stored)
    # Of the model, not of the mapped file, the pages of which would count as memory too.
    check_finite(model.state_dict(), source)
