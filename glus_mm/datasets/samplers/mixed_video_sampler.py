"""Which data set of a mix, and which of its videos, comes next."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from torch.utils.data import ConcatDataset

from glus_mm.datasets.samplers.base_video_sampler import BaseVideoSampler
from glus_mm.registry import DATA_SAMPLERS

# Keeps these random numbers apart from those of the items, whose seeds begin with the data set's.
_STREAM = 0x6D6978


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
        self.ratios = _check_ratios(ratios, len(children))
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


def _check_ratios(ratios: Sequence[float], number: int) -> list[float]:
    if isinstance(ratios, (str, bytes)) or not isinstance(ratios, Sequence):
        raise TypeError(f'ratios must be a list of numbers, got {ratios!r}')
    if len(ratios) != number:
        raise ValueError(f'ratios must hold one number for each of the {number} data sets, got '
                         f'{list(ratios)}')
    for ratio in ratios:
        if isinstance(ratio, bool) or not isinstance(ratio, (int, float)) \
                or not math.isfinite(ratio) or ratio <= 0:
            raise ValueError(f'ratios must be positive finite numbers, got {ratio!r} in '
                             f'{list(ratios)}')
    return [float(ratio) for ratio in ratios]
