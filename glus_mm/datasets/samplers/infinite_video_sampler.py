"""An endless sampler that also chooses the draw of each item."""

from collections.abc import Iterator, Sized
from itertools import count, islice

import numpy as np
from mmengine.dist import get_dist_info, sync_random_seed
from torch.utils.data import Sampler

from glus_mm.registry import DATA_SAMPLERS


@DATA_SAMPLERS.register_module()
class InfiniteVideoSampler(Sampler):
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
        if len(dataset) < 1:
            raise ValueError('expected a data set with at least one item, got an empty one')
        if seed is None:
            seed = sync_random_seed()
        if seed < 0:
            raise ValueError(f'seed must be at least 0, got {seed}')
        self.size = len(dataset)
        self.shuffle = shuffle
        self.seed = seed
        self.rank, self.world_size = get_dist_info()

    def _global_sequence(self) -> Iterator[tuple[int, int]]:
        for epoch in count():
            order = np.arange(self.size)
            if self.shuffle:
                np.random.default_rng((self.seed, epoch)).shuffle(order)
            for index in order.tolist():
                yield index, epoch

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Start this rank's part of the sequence from its beginning."""
        return islice(self._global_sequence(), self.rank, None, self.world_size)

    def __len__(self) -> int:
        """Length of one epoch over all ranks, as mmengine's infinite sampler counts."""
        return self.size

    def set_epoch(self, epoch: int) -> None:
        """Do nothing: the sequence counts its epochs itself."""
