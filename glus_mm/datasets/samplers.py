"""Samplers: which item comes next, and with which draw."""

import logging
import math
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence, Sized
from itertools import count
from typing import Any

import numpy as np
from mmengine.dataset import BaseDataset
from mmengine.dist import get_dist_info, sync_random_seed
from mmengine.logging import print_log
from torch.utils.data import ConcatDataset, Sampler

from glus_mm.registry import DATA_SAMPLERS
from glus_mm.utils.balance import balance
from glus_mm.utils.checked import checked

__all__ = [
    'BalancedVideoSampler', 'BaseVideoSampler', 'InfiniteVideoSampler', 'MixedVideoSampler'
]
# Keeps these random numbers apart from those of the items, whose seeds begin with the data set's.
_STREAM = 0x6D6978


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
        checked(0, seed=seed)
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


@DATA_SAMPLERS.register_module()
class MixedVideoSampler(BaseVideoSampler):
    """Yield ``(index, draw)`` for ever: a data set by the ratios, then one of its videos.

    Each item is drawn independently of all others, the data set with probabilities in proportion
    to ``ratios`` and the video uniformly, as in the official training. The draw is the position
    in the global sequence, so that a video is a fresh sample whenever it comes up, and the same
    one in every run with this seed. The item at a position depends on ``seed``, ``ratios``, the
    sizes of the data sets and the position only; see the base class for ranks and for resuming.

    Args:
        dataset: several data sets as one, such as ``MixedRefVOSDataset``.
        ratios: how often each is chosen, in its order; any scale.
        seed: seed of the sequence; None draws one that all ranks share.

    Raises:
        TypeError: the data set is not made of several.
        ValueError: there is not one positive, finite ratio for each, one is empty, or the seed is
            negative.

    Examples:
        >>> from itertools import islice
        >>> from torch.utils.data import ConcatDataset
        >>> from glus_mm.datasets import MixedVideoSampler
        >>> sampler = MixedVideoSampler(ConcatDataset(['abcd', 'xy']), ratios=[1, 3])
        >>> [index for index, draw in islice(sampler, 8)]  # 0..3 are the first data set's
        [1, 5, 5, 0, 4, 4, 1, 5]
        >>> [draw for index, draw in islice(sampler, 3)]
        [0, 1, 2]
    """

    def __init__(self, dataset: ConcatDataset, ratios: Sequence[float],
                 seed: int | None = 0) -> None:
        children = getattr(dataset, 'datasets', None)
        if not isinstance(children, (list, tuple)) or not children:
            raise TypeError('MixedVideoSampler: expected a data set made of several, such as '
                            f'MixedRefVOSDataset, got {type(dataset).__name__}')
        super().__init__(len(dataset), seed)
        self.sizes = [len(child) for child in children]
        if 0 in self.sizes:
            raise ValueError(f'MixedVideoSampler: expected videos in every data set, got '
                             f'{self.sizes}')
        if isinstance(ratios, (str, bytes)) or not isinstance(ratios, Sequence):
            raise TypeError(f'ratios must be a list of numbers, got {ratios!r}')
        if len(ratios) != len(children):
            raise ValueError(f'ratios must hold one number for each of the {len(children)} data '
                             f'sets, got {list(ratios)}')
        for ratio in ratios:
            if isinstance(ratio, bool) or not isinstance(ratio, (int, float)) \
                    or not math.isfinite(ratio) or ratio <= 0:
                raise ValueError(f'ratios must be positive finite numbers, got {ratio!r} in '
                                 f'{list(ratios)}')
        self.ratios = [float(ratio) for ratio in ratios]
        # Scaled against overflow. The bounds end in exactly 1, which random numbers stay below.
        sums = np.cumsum(np.divide(self.ratios, max(self.ratios)))
        self._bounds = sums / sums[-1]
        self._starts = np.cumsum([0, *self.sizes]).tolist()

    def item(self, position: int) -> tuple[int, int]:
        """Look up the sequence; see the base class."""
        rng = np.random.default_rng((_STREAM, self.seed, position))
        child = int(np.searchsorted(self._bounds, rng.random(), side='right'))
        return self._starts[child] + int(rng.integers(self.sizes[child])), position

    def state_dict(self) -> dict[str, Any]:
        """Return what the sequence depends on, as plain values."""
        return dict(super().state_dict(), sizes=list(self.sizes), ratios=list(self.ratios))


@DATA_SAMPLERS.register_module()
class BalancedVideoSampler(Sampler):
    """Yield each video once, on one of the processes, balanced by frames x expressions.

    The annotation's list tells both numbers; no video is opened. Each process begins with its
    longest video, so that one that does not fit the memory is met first. Unlike with MMEngine's
    ``DefaultSampler`` no video is repeated to make the shares equally long, and a share may be
    empty: a metric has to collect by MMEngine's ``collect_results``, as ``RefVOSMetric`` does.

    Args:
        dataset: a data set for referring video object segmentation, or a mix of them.
        seed: not used; MMEngine hands one to every sampler.

    Raises:
        TypeError: the data set has no list of videos.
        ValueError: it does not tell the frames and expressions of a video, or is empty.

    Attributes:
        costs (list[int]): frames x expressions of each video.
    """

    def __init__(self, dataset: BaseDataset | ConcatDataset, seed: int | None = None) -> None:
        if not callable(getattr(dataset, 'get_data_info', None)):
            raise TypeError('BalancedVideoSampler: expected a data set with a list of videos, got '
                            f'{type(dataset).__name__}')
        if not len(dataset):
            raise ValueError('BalancedVideoSampler: expected at least one video, got none')
        self.costs = []
        for i in range(len(dataset)):
            info = dataset.get_data_info(i)
            missing = [key for key in ('frame_names', 'expressions') if key not in info]
            if missing:
                raise ValueError(
                    f'BalancedVideoSampler: expected frame_names and expressions of item {i} in '
                    f'the list of the data set, got no {" and no ".join(missing)}')
            self.costs.append(len(info['frame_names']) * len(info['expressions']))
        self.rank, self.world_size = get_dist_info()
        self._skipped: set[int] = set()
        self._share = self._deal()

    def skip(self, indices: Iterable[int]) -> None:
        """Leave videos out and share the others out anew; the same call on every process.

        Args:
            indices: positions in the data set, instead of those of an earlier call.

        Raises:
            IndexError: there is no such position.
        """
        skipped = set(indices)
        wrong = sorted(skipped - set(range(len(self.costs))))
        if wrong:
            raise IndexError(f'expected positions below {len(self.costs)}, got {wrong[0]}')
        self._skipped = skipped
        self._share = self._deal()

    def _deal(self) -> list[int]:
        """Positions of the videos that this process takes."""
        left = [i for i in range(len(self.costs)) if i not in self._skipped]
        parts = balance([self.costs[i] for i in left], self.world_size)
        return [left[i] for i in parts[self.rank]]

    def __iter__(self) -> Iterator[int]:
        """Positions of this process's videos, the most work first."""
        return iter(self._share)

    def __len__(self) -> int:
        """Number of this process's videos."""
        return len(self._share)

    def set_epoch(self, epoch: int) -> None:
        """Do nothing: there is no randomness."""
