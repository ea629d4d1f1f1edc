"""Bring the state of a run to tensors and plain containers, and back.

torch >= 2.6 loads files without running code from them (``weights_only=True``). MMEngine 0.10
stores objects of its own and of NumPy beside the weights, which such a load refuses. What is
turned here holds only tensors, dicts, lists, tuples, strings, numbers and None, so that a
checkpoint can be loaded safely and a run still resumes from it.
"""

import logging
from collections import OrderedDict
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer, print_log

# A dict with one of these as its only key stands for an object.
HISTORY_KEY = '__history_buffer__'
ARRAY_KEY = '__numpy_array__'

_SCALARS = (str, bytes, bool, int, float, complex, type(None))


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
        return {ARRAY_KEY: _array_to_plain(value, where)}
    if isinstance(value, HistoryBuffer):
        log, count = value.data
        return {HISTORY_KEY: {'log': torch.from_numpy(np.array(log)),
                              'count': torch.from_numpy(np.array(count)),
                              'max_length': value.max_length}}
    if isinstance(value, dict):
        return _dict_to_plain(value, where)
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


def _array_to_plain(array: np.ndarray, where: str) -> torch.Tensor | list:
    try:
        return torch.from_numpy(array.copy())
    except TypeError:  # strings and objects have no tensor
        return to_plain(array.tolist(), where)


def _dict_to_plain(value: dict, where: str) -> dict:
    plain = OrderedDict() if isinstance(value, OrderedDict) else {}
    for key, item in value.items():
        plain[to_plain(key, where)] = to_plain(item, f'{where}.{key}')
    if hasattr(value, '_metadata'):  # versions of modules in a state dict
        plain._metadata = to_plain(value._metadata, f'{where}._metadata')
    return plain

