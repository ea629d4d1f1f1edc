"""Videos of a test, shared out by how much work they are."""

from collections.abc import Iterable, Iterator

from mmengine.dataset import BaseDataset, ConcatDataset
from mmengine.dist import get_dist_info
from torch.utils.data import Sampler

from glus_mm.registry import DATA_SAMPLERS
from glus_mm.utils.balance import balance


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
        self.costs = [_cost(dataset.get_data_info(i), i) for i in range(len(dataset))]
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


def _cost(info: dict, index: int) -> int:
    missing = [key for key in ('frame_names', 'expressions') if key not in info]
    if missing:
        raise ValueError(f'BalancedVideoSampler: expected frame_names and expressions of item '
                         f'{index} in the list of the data set, got no {" and no ".join(missing)}')
    return len(info['frame_names']) * len(info['expressions'])
