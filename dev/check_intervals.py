"""Whether 95 % intervals cover what they say: data sets drawn from populations whose mean is known.

Prints, for each population and number of videos, in how many of 1,000 draws the interval of
``cluster_mean`` holds the true mean, and in how many the plain percentile bootstrap would. Exits
with 1 where the former is not between 93 and 97 %. About six minutes on one core::

    python dev/check_intervals.py [--sets 1000] [--draws 2000]
"""

import argparse
from collections.abc import Callable

import numpy as np

from glus_mm.evaluation.bootstrap import cluster_mean

VIDEOS = (20, 50, 140)
GOAL = (93.0, 97.0)
Rng = np.random.Generator
Population = Callable[[Rng, int], np.ndarray]


def figures(rng: Rng, number: int) -> np.ndarray:
    """J&F of one system: some videos are easy, some are not, and expressions vary."""
    return np.clip(rng.normal(rng.beta(1.2, 0.8), 0.25, number), 0, 1)


def differences(rng: Rng, number: int) -> np.ndarray:
    """Two systems that are alike on most expressions and far apart on a quarter of them."""
    far = (rng.random(number) < 0.25) * rng.normal(0, 0.5, number)
    return rng.normal(0.02, 0.06) + far + rng.normal(0, 0.03, number)


def few_videos(rng: Rng, number: int) -> np.ndarray:
    """Gains on few videos, and on few of their expressions: a skewed distribution."""
    return rng.exponential(0.06) - 0.02 + (rng.random(number) < 0.15) * rng.beta(2, 2, number)


def mostly_equal(rng: Rng, number: int) -> np.ndarray:
    """Two systems with the same masks but for 3 % of the expressions."""
    sign = rng.choice([-1, 1], number, p=[0.35, 0.65])
    return (rng.random(number) < 0.03) * sign * rng.beta(2, 1, number)


def long_videos(rng: Rng, number: int) -> np.ndarray:
    """A difference that shrinks with the number of expressions of the video."""
    far = (rng.random(number) < 0.25) * rng.normal(0, 0.5, number)
    return rng.normal(0.04 - 0.003 * number, 0.1) + far


POPULATIONS: tuple[Population, ...] = (
    figures, differences, few_videos, mostly_equal, long_videos)


def draw_set(population: Population, rng: Rng, videos: int) -> dict[str, np.ndarray]:
    """A data set whose videos have very different numbers of expressions, 14 in the mean."""
    numbers = 1 + rng.poisson(rng.gamma(2, 6.5, videos))
    return {str(video): population(rng, number) for video, number in enumerate(numbers)}


def coverage(population: Population, videos: int, sets: int, draws: int, large: int = 200_000
             ) -> tuple[float, float]:
    """Percent of the sets whose interval holds the true mean: ours, and plain percentiles."""
    rng, hits = np.random.default_rng(7), np.zeros(2)
    # A very large set tells the true mean.
    truth = np.concatenate(list(
        draw_set(population, np.random.default_rng(1), large).values())).mean()
    for _ in range(sets):
        values = draw_set(population, rng, videos)
        found = cluster_mean(values, draws)
        sums, counts = (np.array([kind(of_video) for of_video in values.values()])
                        for kind in (np.sum, len))
        picks = np.random.default_rng(0).multinomial(
            videos, np.full(videos, 1 / videos), draws).astype(float)
        low, high = np.percentile(picks @ sums / (picks @ counts), (2.5, 97.5))
        hits += (found.low <= truth <= found.high, low <= truth <= high)
    return tuple(float(hit) for hit in 100 * hits / sets)


def main() -> int:
    """Simulate and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--sets', type=int, default=1000, help='data sets (default: %(default)s)')
    parser.add_argument('--draws', type=int, default=2000,
                        help='draws of a bootstrap (default: %(default)s)')
    args = parser.parse_args()
    bad = 0
    print(f'{"population":14} {"videos":>6} {"interval":>9} {"percentile":>11}')
    for population in POPULATIONS:
        for videos in VIDEOS:
            ours, plain = coverage(population, videos, args.sets, args.draws)
            bad += not GOAL[0] <= ours <= GOAL[1]
            print(f'{population.__name__:14} {videos:6d} {ours:8.1f}% {plain:10.1f}%', flush=True)
    print(f'{bad} outside {GOAL[0]:.0f} to {GOAL[1]:.0f} %')
    return int(bad > 0)


if __name__ == '__main__':
    raise SystemExit(main())
