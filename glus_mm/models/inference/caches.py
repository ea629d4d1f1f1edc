"""Caches that state their bound."""

from collections import OrderedDict
from collections.abc import Callable, Container, Hashable
from typing import Generic, TypeVar

from glus_mm.utils.checked import checked
from glus_mm.utils.frames import clip_centres

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
        if key in self._pinned:
            return self._pinned[key]
        if key in self._values:
            self._values.move_to_end(key)
            return self._values[key]
        value = compute()
        if key in self._pins:
            self._pinned[key] = value
        elif self.max_size:
            self._values[key] = value
            while len(self._values) > self.max_size:
                self._values.popitem(last=False)
        return value


class SeenFrames(Generic[Value]):
    """Keep values of evenly spaced frames of a video that grows, in bounded memory.

    Every ``step``-th frame is kept. Once there are too many, every second one is dropped and
    ``step`` doubles. Memory is bounded, and the kept frames cover all that was seen.

    Args:
        max_size: the most values that are kept, at least 2.

    Raises:
        ValueError: ``max_size`` is below 2.
    """

    def __init__(self, max_size: int) -> None:
        checked(2, max_size=max_size)
        self.max_size = max_size
        self.num_seen = 0
        self.step = 1
        self._values: dict[int, Value] = {}

    def __len__(self) -> int:
        """Number of values that are kept now."""
        return len(self._values)

    def __getitem__(self, frame_idx: int) -> Value:
        """The value of a kept frame."""
        return self._values[frame_idx]

    def wants_next(self) -> bool:
        """Whether the value of the next frame will be kept."""
        return self.num_seen % self.step == 0

    def add(self, value: Value | None) -> None:
        """Count the next frame."""
        if self.wants_next():
            self._values[self.num_seen] = value
        self.num_seen += 1
        if len(self._values) > self.max_size:
            self.step *= 2
            self._values = {t: v for t, v in self._values.items() if t % self.step == 0}

    def choose(self, number: int) -> list[int]:
        """Kept frames nearest to where an offline run has its context frames.

        That is the centre of each of ``number`` equal clips of what was seen so far. As long as
        at most ``max_size`` frames were seen, the choice is that of an offline run over them.

        Args:
            number: how many; with few frames there are repeats.

        Returns:
            0-based positions.
        """
        return [min(self._values, key=lambda kept: abs(kept - centre))
                for centre in clip_centres(self.num_seen, number)]
