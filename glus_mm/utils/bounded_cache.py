"""A cache that states its bound."""

from collections import OrderedDict
from collections.abc import Callable, Container, Hashable
from typing import Generic, TypeVar

from glus_mm.utils.checked import checked

Value = TypeVar('Value')


class BoundedCache(Generic[Value]):
    """Keep the values that were used last.

    Args:
        max_size: the most values that are kept; 0 keeps none, so that everything is computed
            anew each time.
        max_pinned: the most values that are kept besides, however long ago they were used: those
            of the keys that :meth:`pin` names.

    Raises:
        ValueError: a bound is negative.
    """

    def __init__(self, max_size: int, max_pinned: int = 0) -> None:
        checked(0, max_size=max_size, max_pinned=max_pinned)
        self.max_size = max_size
        self.max_pinned = max_pinned
        self._values: OrderedDict[Hashable, Value] = OrderedDict()
        self._pins: Container[Hashable] = ()
        self._pinned: dict[Hashable, Value] = {}

    def __len__(self) -> int:
        """Number of values that are kept now."""
        return len(self._values) + len(self._pinned)

    def __contains__(self, key: Hashable) -> bool:
        """Whether the value of ``key`` is kept now."""
        return key in self._values or key in self._pinned

    def __getitem__(self, key: Hashable) -> Value:
        """The value of a key that is kept now; a ``KeyError`` where it is not."""
        if key in self._values:
            self._values.move_to_end(key)
        return self._pinned[key] if key in self._pinned else self._values[key]

    def pin(self, keys: Container[Hashable]) -> None:
        """Keep the values of these keys from now on, and of no others.

        Args:
            keys: a container with a length, at most ``max_pinned``.

        Raises:
            ValueError: there are more keys than may be pinned.
        """
        if len(keys) > self.max_pinned:
            raise ValueError(f'expected at most {self.max_pinned} keys to pin, got {len(keys)}')
        self._pins = keys
        pinned = {key: value for key, value in self._pinned.items() if key in keys}
        self._pinned = pinned | {
            key: self._values.pop(key) for key in list(self._values) if key in keys}

    def get(self, key: Hashable, compute: Callable[[], Value]) -> Value:
        """Return the value of ``key``; compute it where it is not kept."""
        if key in self:
            return self[key]
        value = compute()
        if key in self._pins:
            self._pinned[key] = value
        elif self.max_size:
            self._values[key] = value
            while len(self._values) > self.max_size:
                self._values.popitem(last=False)
        return value
