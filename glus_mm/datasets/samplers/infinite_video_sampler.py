"""An endless sampler that also chooses the draw of each item."""

from collections.abc import Sized
from typing import Any

import numpy as np

from glus_mm.datasets.samplers.base_video_sampler import BaseVideoSampler
from glus_mm.registry import DATA_SAMPLERS


@DATA_SAMPLERS.register_module()
class InfiniteVideoSampler(BaseVideoSampler):
    """Yield ``(index, draw)`` for ever; the draw is the number of the epoch.

    All ranks walk through one global sequence, each taking every ``world_size``-th entry. It
    depends on ``seed`` and the number of videos only, so that a run sees the same samples in the
    same order at any number of ranks and workers.

    Args:
        dataset: the data set, of which only the length matters.
        shuffle: a fresh permutation in every epoch; otherwise the given order.
        seed: seed of the permutations; None draws one that all ranks share.

    Raises:
        ValueError: the data set is empty or the seed is negative.

    Examples:
        >>> from itertools import islice
        >>> from glus_mm.datasets import InfiniteVideoSampler
        >>> list(islice(InfiniteVideoSampler(['a', 'b'], shuffle=False), 5))
        [(0, 0), (1, 0), (0, 1), (1, 1), (0, 2)]
    """

    def __init__(self, dataset: Sized, shuffle: bool = True, seed: int | None = 0) -> None:
        super().__init__(len(dataset), seed)
        self.shuffle = shuffle
        self._order: tuple[tuple[int, int], np.ndarray] | None = None

    def item(self, position: int) -> tuple[int, int]:
        """Look up the sequence; see the base class."""
        epoch, place = divmod(position, self.size)
        if not self.shuffle:
            return place, epoch
        if self._order is None or self._order[0] != (self.seed, epoch):
            order = np.arange(self.size)
            np.random.default_rng((self.seed, epoch)).shuffle(order)
            self._order = (self.seed, epoch), order
        return int(self._order[1][place]), epoch

    def state_dict(self) -> dict[str, Any]:
        """Return what the sequence depends on, as plain values."""
        return dict(super().state_dict(), shuffle=self.shuffle)
