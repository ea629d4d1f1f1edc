"""The base of the samplers: one endless sequence that all processes share."""

import logging
from abc import abstractmethod
from collections.abc import Iterator
from itertools import count
from typing import Any

from mmengine.dist import get_dist_info, sync_random_seed
from mmengine.logging import print_log
from torch.utils.data import Sampler


class BaseVideoSampler(Sampler):
    """Yield ``(index, draw)`` for ever; subclasses say which pair stands at which position.

    There is one global sequence. Rank r of w processes takes its positions r, r + w, r + 2w, ...,
    so that a run sees the same samples in the same order at any number of processes and workers.
    As every position can be computed without those before it, a resumed run goes on from where it
    was without loading what it has seen: see ``ResumeSamplerHook``.

    Args:
        size: number of items of the data set.
        seed: seed of the sequence; None draws one that all ranks share.

    Raises:
        ValueError: the data set is empty or the seed is negative.
    """

    def __init__(self, size: int, seed: int | None) -> None:
        if size < 1:
            raise ValueError('expected a data set with at least one item, got an empty one')
        if seed is None:
            seed = sync_random_seed()
        if seed < 0:
            raise ValueError(f'seed must be at least 0, got {seed}')
        self.size = size
        self.seed = seed
        self.start = 0
        self.rank, self.world_size = get_dist_info()

    @abstractmethod
    def item(self, position: int) -> tuple[int, int]:
        """Look up the sequence.

        Args:
            position: in the global sequence, from 0.

        Returns:
            Index of the item and number of its draw.
        """

    def skip_to(self, position: int) -> None:
        """Let iterations that begin after this call start at a position of the global sequence.

        Args:
            position: number of items that the processes have consumed together.

        Raises:
            ValueError: it is negative.
        """
        if position < 0:
            raise ValueError(f'expected a position of at least 0, got {position}')
        self.start = position

    def state_dict(self) -> dict[str, Any]:
        """Return what the sequence depends on, as plain values."""
        return dict(type=type(self).__name__, seed=self.seed, size=self.size)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the seed of a run that is continued, and warn of what else has changed.

        MMEngine, too, takes the seed from the checkpoint on resume, but after the sampler was
        built.

        Args:
            state: what :meth:`state_dict` returned then.
        """
        mine = self.state_dict()
        changed = {key: f'{state.get(key)} then, {mine[key]} now' for key in mine
                   if state.get(key) != mine[key]}
        if 'seed' in changed and 'seed' in state:
            print_log(f'the sampler goes on with the seed of the checkpoint, {state["seed"]}, '
                      f'instead of {self.seed}', 'current', logging.WARNING)
            self.seed = state['seed']
            del changed['seed']
        if changed:
            print_log(f'the samples are not those of an uninterrupted run: {changed}', 'current',
                      logging.WARNING)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Start this rank's part of the sequence."""
        return map(self.item, count(self.start + self.rank, self.world_size))

    def __len__(self) -> int:
        """Number of items of the data set, as mmengine's infinite sampler counts."""
        return self.size

    def set_epoch(self, epoch: int) -> None:
        """Do nothing: the sequence has no epochs that come from outside."""
