"""Differences between two rows of a study, by resampling seeds and videos."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

DRAWS = 10_000


@dataclass(frozen=True)
class Difference:
    """Mean of paired differences and the bounds of its 95 % interval, in the figures' unit.

    Attributes:
        mean: over all expressions, each seed alike.
        low: 2.5th percentile of the bootstrap.
        high: 97.5th percentile.
        seeds: number of seeds.
        videos: number of videos with such expressions.
        expressions: number of expressions of one seed.
    """

    mean: float
    low: float
    high: float
    seeds: int
    videos: int
    expressions: int

    @property
    def verdict(self) -> str:
        """What the interval says of the claim that the first is better."""
        if self.low > 0:
            return 'shown'
        return 'the other way round' if self.high < 0 else 'not shown'


def paired_bootstrap(first: Sequence[Mapping[str, Sequence[float]]],
                     second: Sequence[Mapping[str, Sequence[float]]], draws: int = DRAWS,
                     seed: int = 0) -> Difference:
    """Compare two rows.

    Each draw takes as many seeds, and as many videos, as there are, with replacement and
    independently of each other, so that what differs between trainings and what differs between
    videos both count. All expressions of a video stay together, as they are alike. With few seeds
    an interval over seeds is coarse: 3 seeds have 10 different draws.

    Args:
        first: for each seed: video -> figure of each of its expressions.
        second: the same seeds, videos and expressions of the other row.
        draws: number of draws.
        seed: of the draws.

    Returns:
        The difference first - second.

    Raises:
        ValueError: the two do not have the same seeds, videos and expressions, or there are none.
    """
    if len(first) != len(second) or not len(first):
        raise ValueError(f'expected as many seeds of both rows, at least one, got {len(first)} '
                         f'and {len(second)}')
    videos = sorted(first[0])
    for figures in (*first, *second):
        if sorted(figures) != videos or any(
                len(figures[name]) != len(first[0][name]) for name in videos):
            raise ValueError('expected the same videos and expressions for all seeds of both rows')
    counts = np.array([len(first[0][name]) for name in videos], dtype=np.float64)
    if not counts.sum():
        raise ValueError('expected at least one expression to compare, got none')
    sums = np.array([[np.sum(a[name]) - np.sum(b[name]) for name in videos]
                     for a, b in zip(first, second)])
    rng = np.random.default_rng(seed)
    seeds = rng.multinomial(len(first), np.full(len(first), 1 / len(first)), draws)
    picks = rng.multinomial(len(videos), np.full(len(videos), 1 / len(videos)), draws)
    total = np.einsum('ds,sv,dv->d', seeds / len(first), sums, picks, optimize=True)
    weight = picks @ counts
    means = total[weight > 0] / weight[weight > 0]
    low, high = np.percentile(means, (2.5, 97.5))
    return Difference(float(sums.sum() / len(first) / counts.sum()), float(low), float(high),
                      len(first), int((counts > 0).sum()), int(counts.sum()))
