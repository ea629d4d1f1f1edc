"""Weights and optimizer state that ZeRO has spread over processes, gathered and spread again.

What is gathered has the names, shapes and order of a run without DeepSpeed, so that checkpoints are
the same whatever wrote them. All functions here are collective: every process has to call them.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import deepspeed
import torch
from deepspeed.utils import (
    safe_get_full_fp32_param,
    safe_get_full_optimizer_state,
    safe_set_full_fp32_param,
    safe_set_full_optimizer_state,
    safe_set_local_fp32_param,
    safe_set_local_optimizer_state,
)
from mmengine.dist import get_rank, get_world_size, is_main_process
from torch import Tensor, nn
from torch.nn import functional as F

Groups = Sequence[Sequence[nn.Parameter]]


def is_spread(parameter: Tensor) -> bool:
    """Whether ZeRO-3 keeps only a part of a parameter in this process.

    Args:
        parameter: any shape.
    """
    return hasattr(parameter, 'ds_id')


def whole_shape(parameter: Tensor) -> torch.Size:
    """The shape of a parameter, spread or not.

    Args:
        parameter: any shape.
    """
    return torch.Size(parameter.ds_shape) if is_spread(parameter) else parameter.shape


@contextmanager
def whole_shapes(model: nn.Module, zero: object, groups: Groups) -> Iterator[None]:
    """Let a model and its optimizer look as without ZeRO, to compare a checkpoint with them.

    Args:
        model: its ``state_dict()`` has tensors without data where a parameter is spread.
        zero: ZeRO's optimizer (``engine.optimizer``); its groups have the model's parameters.
        groups: those parameters, of each group, from before ZeRO took over.
    """
    spread = {name: parameter for name, parameter in model.named_parameters(remove_duplicate=False)
              if is_spread(parameter)}

    def show(_module: nn.Module, state: dict, *_: object) -> None:
        for name, parameter in spread.items():
            state[name] = _without_data(parameter)

    handle = model.register_state_dict_post_hook(show)
    taken = [group['params'] for group in zero.param_groups]
    try:
        for group, parameters in zip(zero.param_groups, groups):
            group['params'] = [_without_data(p) if is_spread(p) else p for p in parameters]
        yield
    finally:
        handle.remove()
        for group, parameters in zip(zero.param_groups, taken):
            group['params'] = parameters


def gather_weights(model: nn.Module) -> dict[str, Tensor]:
    """The state dict of a model; what is trained in float32.

    Args:
        model: the model that the engine has taken over.

    Returns:
        Tensors on the CPU in the main process, nothing in the others.
    """
    own = dict(model.named_parameters(remove_duplicate=False))
    state = {}
    for name, value in model.state_dict().items():
        parameter = own.get(name)
        if parameter is not None and parameter.requires_grad:
            value = safe_get_full_fp32_param(parameter)
            value = parameter.detach() if value is None else value
            _keep(state, name, value)
        elif parameter is not None and is_spread(parameter):
            with deepspeed.zero.GatheredParameters([parameter]):
                _keep(state, name, parameter.detach())
        else:
            _keep(state, name, value)
    return state


@torch.no_grad()
def spread_weights(model: nn.Module, state: dict[str, Tensor]) -> list[str]:
    """Make a state dict the weights of a model, also those that the optimizer has in float32.

    Args:
        model: the model that the engine has taken over.
        state: the same in every process; tensors without data leave a weight as it is.

    Returns:
        Names of the model that ``state`` does not have.
    """
    own = dict(model.named_parameters(remove_duplicate=False))
    missing = []
    for name, value in model.state_dict().items():
        new = state.get(name)
        if new is None:
            missing.append(name)
        if new is None or new.is_meta:
            continue
        parameter = own.get(name)
        if parameter is None:
            value.copy_(new)
            continue
        if is_spread(parameter):
            with deepspeed.zero.GatheredParameters([parameter], modifier_rank=0):
                if is_main_process():
                    parameter.copy_(new)
        else:
            parameter.copy_(new)
        if parameter.requires_grad:
            new = new.to(value.device, torch.float32)
            if is_spread(parameter):
                safe_set_local_fp32_param(parameter, _own_part(parameter, new))
            else:
                safe_set_full_fp32_param(parameter, new)
    return missing


def gather_optimizer(zero: object, groups: Groups) -> dict:
    """The state of an optimizer in the form of torch's ``state_dict()``.

    Args:
        zero: ZeRO's optimizer, which holds torch's.
        groups: parameters of each group from before ZeRO took over.

    Returns:
        ``state`` and ``param_groups``; in the main process with tensors on the CPU, in the others
        without ``state``. Parameters that are frozen have no entry.
    """
    optimizer = zero.optimizer
    first = next(iter(optimizer.state.values()), {})
    if first:
        _link_states(zero)
    keys = [key for key, value in first.items() if isinstance(value, Tensor) and value.ndim]
    numbers = {key: value for key, value in first.items() if key not in keys}
    states, index, saved_groups = {}, 0, []
    for group, parameters in zip(optimizer.param_groups, groups):
        options = {key: value for key, value in group.items() if key != 'params'}
        saved_groups.append(dict(
            options, params=list(range(index, index + len(parameters)))))
        for parameter in parameters:
            if parameter.requires_grad and first:
                entry: dict = {}
                for key in keys:
                    _keep(entry, key, safe_get_full_optimizer_state(parameter, key))
                if is_main_process():
                    states[index] = dict(entry, **{
                        key: value.detach().cpu().clone() if isinstance(value, Tensor) else value
                        for key, value in numbers.items()})
            index += 1
    return dict(state=states, param_groups=saved_groups)


def spread_optimizer(zero: object, groups: Groups, saved: dict) -> None:
    """Let an optimizer go on from a state that any engine, with any number of processes, saved.

    Args:
        zero: ZeRO's optimizer.
        groups: parameters of each group from before ZeRO took over.
        saved: as torch's ``state_dict()``, the same in every process, with fitting groups and
            shapes.
    """
    optimizer = zero.optimizer
    for group, options in zip(optimizer.param_groups, saved['param_groups']):
        group.update({key: value for key, value in options.items() if key != 'params'})
    order = [index for group in saved['param_groups'] for index in group['params']]
    parameters = [parameter for group in groups for parameter in group]
    first = next(iter(saved['state'].values()), None)
    if first is None:
        return
    keys = [key for key, value in first.items() if isinstance(value, Tensor) and value.ndim]
    _start_states(zero, keys, {key: first[key] for key in first if key not in keys})
    for index, parameter in zip(order, parameters):
        entry = saved['state'].get(index)
        if entry is None or not parameter.requires_grad:
            continue
        for key in keys:
            value = entry[key].to(_flat(zero)[0].device, torch.float32)
            if is_spread(parameter):
                safe_set_local_optimizer_state(parameter, _own_part(parameter, value), key)
            else:
                safe_set_full_optimizer_state(parameter, value, key)


def _flat(zero: object) -> list[Tensor]:
    """This process's parts of the float32 parameters, one for each group or part of a group."""
    # The first is ZeRO-3's name for them, the other that of ZeRO-1 and 2.
    if hasattr(zero, 'fp32_partitioned_groups_flat'):
        return list(zero.fp32_partitioned_groups_flat)
    return list(zero.single_partition_of_fp32_groups)


def _start_states(zero: object, keys: Sequence[str], numbers: dict) -> None:
    """Give torch's optimizer the states that it would make in its first step."""
    for part in _flat(zero):
        zero.optimizer.state[part] = {
            **{key: torch.zeros_like(part) for key in keys},
            **{key: value.clone() if isinstance(value, Tensor) else value
               for key, value in numbers.items()}}
    _link_states(zero)


def _link_states(zero: object) -> None:
    """Let ZeRO-1 and 2 find the optimizer's states by parameter; ZeRO-3 does not need it.

    DeepSpeed 0.19 does this once, as soon as the first group has made its step: the other groups
    have no states by then, and it would not find theirs.
    """
    link = getattr(zero, '_lazy_init_hp_params_optimizer_state', None)
    if link is not None:
        zero._hp_optimizer_states_linked = False
        link()


def keep_small_whole(zero: object) -> None:
    """Let ZeRO-3 hold small parameters whole again, as it does after each step.

    Parts of SAM-2 read such parameters outside of the module that owns them, where DeepSpeed does
    not gather them.

    Args:
        zero: ZeRO's optimizer.
    """
    small = getattr(zero, 'persistent_parameters', [])
    if small:
        small[0].all_gather(small)


def _own_part(parameter: Tensor, value: Tensor) -> Tensor:
    """What of a whole value belongs to this process in ZeRO-3.

    DeepSpeed 0.19's functions for whole values fail where the processes' parts are not equally
    large, without padding.
    """
    size = parameter.ds_tensor.numel()
    padding = size * get_world_size() - value.numel()
    return F.pad(value.flatten(), (0, padding)).narrow(0, size * get_rank(), size)


def _keep(state: dict, name: str, value: Tensor) -> None:
    """Put a copy on the CPU into a dict of the main process."""
    if is_main_process():
        state[name] = value.detach().to('cpu', copy=True)


def _without_data(parameter: Tensor) -> Tensor:
    return torch.empty(whole_shape(parameter), dtype=parameter.dtype, device='meta')
