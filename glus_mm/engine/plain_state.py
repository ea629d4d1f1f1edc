"""What a checkpoint of a run holds: plain containers, an optimizer that fits, no frozen base.

torch >= 2.6 loads files without running code from them (``weights_only=True``). MMEngine 0.10
stores objects of its own and of NumPy beside the weights, which such a load refuses. What is
turned here holds only tensors, dicts, lists, tuples, strings, numbers and None, so that a
checkpoint can be loaded safely and a run still resumes from it.
"""

import logging
from collections import OrderedDict
from collections.abc import Mapping
from os import PathLike
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer, print_log
from mmengine.optim import OptimWrapper
from torch import Tensor, nn

from glus_mm.utils.base_weights import base_entry, digests
from glus_mm.utils.checkpoint import list_keys

# A dict with one of these as its only key stands for an object.
HISTORY_KEY = '__history_buffer__'
ARRAY_KEY = '__numpy_array__'

_SCALARS = (str, bytes, bool, int, float, complex, type(None))
# States that have the shape of their parameter.
_SHAPED = ('exp_avg', 'exp_avg_sq', 'momentum_buffer')


def to_plain(value: Any, where: str) -> Any:
    """Turn a value into tensors and plain containers.

    Args:
        value: what is to be saved. Tensors are passed through, not copied.
        where: name of the value, for the error message.

    Returns:
        The plain form. NumPy scalars become Python numbers; arrays and MMEngine's
        ``HistoryBuffer`` become dicts that ``from_plain`` turns back.

    Raises:
        TypeError: something inside has no plain form; the message says what and where.
    """
    if isinstance(value, torch.Tensor):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if type(value) in _SCALARS or type(value) in (torch.Size, torch.dtype, torch.device):
        return value
    if isinstance(value, np.ndarray):
        try:
            return {ARRAY_KEY: torch.from_numpy(value.copy())}
        except TypeError:  # strings and objects have no tensor
            return {ARRAY_KEY: to_plain(value.tolist(), where)}
    if isinstance(value, HistoryBuffer):
        log, count = value.data
        return {HISTORY_KEY: {'log': torch.from_numpy(np.array(log)),
                              'count': torch.from_numpy(np.array(count)),
                              'max_length': value.max_length}}
    if isinstance(value, dict):
        plain = OrderedDict() if isinstance(value, OrderedDict) else {}
        for key, item in value.items():
            plain[to_plain(key, where)] = to_plain(item, f'{where}.{key}')
        if hasattr(value, '_metadata'):  # versions of modules in a state dict
            plain._metadata = to_plain(value._metadata, f'{where}._metadata')
        return plain
    if isinstance(value, (list, tuple)):
        items = [to_plain(item, f'{where}[{i}]') for i, item in enumerate(value)]
        return items if isinstance(value, list) else tuple(items)
    if isinstance(value, (set, frozenset)):
        return {to_plain(item, where) for item in value}
    for base in (str, int, float):  # a subclass, such as an enum with values
        if isinstance(value, base):
            return str.__str__(value) if base is str else base(value)
    raise TypeError(f'expected tensors and plain containers in a checkpoint, got '
                    f'{type(value).__module__}.{type(value).__qualname__} at {where}')


def from_plain(value: Any) -> Any:
    """Turn the plain form of ``to_plain`` back; anything else is returned as it is."""
    if isinstance(value, dict):
        if set(value) == {HISTORY_KEY}:
            state = value[HISTORY_KEY]
            return HistoryBuffer(state['log'].cpu().numpy(), state['count'].cpu().numpy(),
                                 state['max_length'])
        if set(value) == {ARRAY_KEY}:
            array = value[ARRAY_KEY]
            return array.cpu().numpy() if isinstance(array, torch.Tensor) else np.array(array)
        return type(value)((key, from_plain(item)) for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return type(value)(from_plain(item) for item in value)
    return value


def drop_objects(hub: dict) -> None:
    """Leave out of a message hub, with a warning, what has no plain form.

    Args:
        hub: the hub's ``state_dict()``; changed in place.
    """
    info = hub['runtime_info']
    for key in list(info):
        try:
            to_plain(info[key], f"checkpoint['message_hub'].{key}")
        except TypeError as error:
            print_log(f'not saved: {error}', 'current', logging.WARNING)
            del info[key]
    # A copy: the hub hands out its own dict here.
    hub['resumed_keys'] = {key: value for key, value in hub['resumed_keys'].items()
                           if key in info or key in hub['log_scalars']}


def check_optimizer_fit(wrapper: OptimWrapper, model: nn.Module, saved: dict | None,
                        source: str) -> None:
    """Raise if an optimizer cannot go on from what a checkpoint holds.

    torch compares the numbers of parameters only, and says which differ in no way.

    Args:
        wrapper: of the optimizer; other kinds of wrappers are left to MMEngine.
        model: the model, not wrapped, for the names.
        saved: ``checkpoint['optimizer']``; None if there is none, which is warned of.
        source: the checkpoint, for messages.

    Raises:
        ValueError: other groups of parameters, another kind of optimizer, or other shapes; the
            message lists them.
    """
    if saved is None:
        print_log(f'{source} holds no state of an optimizer: it starts anew, and so the run does '
                  'not go on as it would have', 'current', logging.WARNING)
        return
    if not isinstance(wrapper, OptimWrapper) or 'param_groups' not in saved:
        return
    groups = wrapper.optimizer.param_groups
    then = [len(group['params']) for group in saved['param_groups']]
    now = [len(group['params']) for group in groups]
    if then != now:
        raise ValueError(
            f'expected an optimizer with {_sizes(now)}, as the config makes it, got the state of '
            f'one with {_sizes(then)}: {source}; the model, what is trained of it, or '
            'optim_wrapper.paramwise_cfg was another one')
    # Switches have come with versions of torch, which fills them in; numbers say which optimizer.
    # DeepSpeed's optimizers hold the one that the config names.
    optimizer = getattr(wrapper.optimizer, 'optimizer', wrapper.optimizer)
    lacking = {key for key, value in optimizer.defaults.items()
               if value is not None and not isinstance(value, bool)}.difference(
                   *saved['param_groups'])
    if lacking:
        raise ValueError(
            f'expected the state of an optimizer {type(optimizer).__name__}, as the config '
            f'makes it, got that of another kind, without {sorted(lacking)}: {source}')
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    parameters = [parameter for group in groups for parameter in group['params']]
    order = [index for group in saved['param_groups'] for index in group['params']]
    other = []
    for index, parameter in zip(order, parameters):
        for key in _SHAPED:
            value = saved['state'].get(index, {}).get(key)
            if isinstance(value, Tensor) and value.shape != parameter.shape:
                other.append(f'{names.get(id(parameter), index)}: expected '
                             f'{tuple(parameter.shape)}, got {tuple(value.shape)} in {key}')
                break
    if other:
        raise ValueError('\n'.join([
            f"the optimizer's state does not fit the model {type(model).__name__}: {source}",
            list_keys('other shape', other)]))


def _sizes(numbers: list[int]) -> str:
    if len(numbers) == 1:
        return f'{numbers[0]} parameters'
    return f'{sum(numbers)} parameters in {len(numbers)} groups'


class FrozenBase:
    """The frozen parameters of a model that are those of a file, and whether they stay so.

    Args:
        path: the file that the model was filled from, its base.
        values: weights of the base, under the model's names. They may be mapped; they are let go
            by :meth:`watch`.
        keys: the names that they have in the base.
        fingerprints: their digests, where they are known already.
    """

    def __init__(self, path: str | PathLike, values: Mapping[str, Tensor],
                 keys: Mapping[str, str], fingerprints: Mapping[str, str] | None = None) -> None:
        self.path = path
        self.keys = dict(keys)
        self._values: dict[str, Tensor] = dict(values)
        self._digests: dict[str, str] = dict(fingerprints or {})
        self._marks: dict[str, str] = {}

    def watch(self, model: nn.Module) -> int:
        """Choose the parameters to leave out: frozen ones with exactly the base's values.

        Args:
            model: the model, not wrapped, filled from the base.

        Returns:
            How many there are.
        """
        parameters = _parameters(model)
        chosen = {name: value for name, value in self._values.items()
                  if _is_frozen(parameter := parameters.get(name))
                  and parameter.shape == value.shape
                  and torch.equal(parameter, value.to(parameter))}
        self._digests.update(digests({name: value for name, value in chosen.items()
                                      if name not in self._digests}))
        self._marks = digests({name: parameters[name] for name in chosen})
        self._values = {}
        return len(chosen)

    def leave_out(self, model: nn.Module, state: dict[str, Tensor], folder: str | PathLike
                  ) -> dict | None:
        """Take out of a state dict what the base has.

        A parameter that was changed since, or is trained now, stays in, with a warning, in this
        and all later checkpoints.

        Args:
            model: the model that the state is of.
            state: changed in place.
            folder: where the checkpoint will be.

        Returns:
            What the checkpoint has to note, see :func:`base_entry`; None if nothing was taken out.
        """
        parameters = _parameters(model)
        frozen = {name: parameters[name] for name in self._marks
                  if _is_frozen(parameters.get(name))}
        marks = digests(frozen)
        changed = [name for name, mark in self._marks.items() if marks.get(name) != mark]
        if changed:
            print_log(list_keys('no longer the frozen weights that training started from, and '
                                'saved from now on', changed), 'current', logging.WARNING)
        for name in changed:
            del self._marks[name]
        taken = [name for name in self._marks if state.pop(name, None) is not None]
        if not taken:
            return None
        return base_entry(self.path, folder, {name: self.keys[name] for name in taken},
                          self._digests)


def _parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    return dict(model.named_parameters(remove_duplicate=False))


def _is_frozen(parameter: nn.Parameter | None) -> bool:
    return parameter is not None and not parameter.requires_grad
