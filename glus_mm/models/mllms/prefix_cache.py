"""Keys and values of prefixes that several sequences go on from."""

import copy
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer


def branches(prefixes: Sequence[DynamicCache | None]) -> DynamicCache | None:
    """A cache for sequences that go on from prefixes.

    Args:
        prefixes: (N) the prefix of each, batch size 1, all equally long; they are not changed, as
            a layer replaces its tensors where it grows. One prefix for all is not copied.

    Returns:
        The cache, with the attributes of the prefix; None without one.
    """
    if prefixes[0] is None:
        return None
    parts = [(prefixes[0], len(prefixes))]
    if any(prefix is not prefixes[0] for prefix in prefixes):
        parts = [(prefix, 1) for prefix in prefixes]
    return _with_rows(prefixes[0], lambda i, name: _cat(
        [getattr(prefix.layers[i], name).expand(num, -1, -1, -1) for prefix, num in parts]))


def pick(cache: DynamicCache, rows: slice | list[int]) -> DynamicCache:
    """Some of the sequences of a cache."""
    return _with_rows(cache, lambda i, name: getattr(cache.layers[i], name)[rows])


def _with_rows(cache: DynamicCache, values: Callable[[int, str], Tensor]) -> DynamicCache:
    """A cache like this one with other keys and values, ``values(layer, 'keys' or 'values')``."""
    made = copy.copy(cache)
    made.layers = []
    for i in range(len(cache.layers)):
        layer = DynamicLayer()
        keys, states = values(i, 'keys'), values(i, 'values')
        layer.lazy_initialization(keys, states)
        layer.keys, layer.values = keys, states
        made.layers.append(layer)
    return made


def _cat(parts: Sequence[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)
