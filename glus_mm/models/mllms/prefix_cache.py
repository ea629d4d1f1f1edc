"""Keys and values of a prefix that several sequences go on from."""

import copy

from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer


def branches(prefix: DynamicCache | None, num: int) -> DynamicCache | None:
    """A cache for ``num`` sequences that go on from a prefix, without a copy of it.

    Args:
        prefix: the prefix, batch size 1; it is not changed, as a layer replaces its tensors where
            it grows.
        num: number of sequences.

    Returns:
        The cache, with the attributes of the prefix; None without one.
    """
    if prefix is None:
        return None
    cache = copy.copy(prefix)
    cache.layers = []
    for layer in prefix.layers:
        branch = DynamicLayer()
        branch.lazy_initialization(layer.keys, layer.values)
        branch.keys = layer.keys.expand(num, -1, -1, -1)
        branch.values = layer.values.expand(num, -1, -1, -1)
        cache.layers.append(branch)
    return cache
