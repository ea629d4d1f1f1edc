"""A cache that states its bound."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Value = TypeVar('Value')


class BoundedCache(Generic[Value]):
    """Keep the values that were used last.

    Args:
        max_size: the most values that are kept; 0 keeps none, so that everything is computed
            anew each time.
    """

    def __init__(self, max_size: int) -> None:
        if max_size < 0:
            raise ValueError(f'max_size must be at least 0, got {max_size}')
        self.max_size = max_size
        self._values: OrderedDict[Hashable, Value] = OrderedDict()

    def __len__(self) -> int:
        """Number of values that are kept now."""
        return len(self._values)

    def get(self, key: Hashable, compute: Callable[[], Value]) -> Value:
        """Return the value of ``key``; compute it where it is not kept."""
        if key in self._values:
            self._values.move_to_end(key)
            return self._values[key]
        value = compute()
        if self.max_size:
            self._values[key] = value
            while len(self._values) > self.max_size:
                self._values.popitem(last=False)
        return value
