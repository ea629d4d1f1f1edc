"""What is kept of a video that grows, in bounded memory."""

from typing import Generic, TypeVar

from glus_mm.utils.bounded_cache import BoundedCache  # noqa: F401 - where it was before
from glus_mm.utils.checked import checked
from glus_mm.utils.frames import clip_centres

Value = TypeVar('Value')


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
