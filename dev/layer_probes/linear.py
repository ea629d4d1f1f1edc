"""Linear probes: what a linear map reads off features, on videos that it was not fitted to."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

PENALTIES = 10.0 ** np.arange(-1, 6)


@dataclass(frozen=True)
class ProbeResult:
    """What a probe reads.

    Attributes:
        figure: of classes, the mean over classes of the share that is right, in percent; of
            places, the mean distance in percent of the side.
        chance: the figure without features.
        number: samples.
    """

    figure: float
    chance: float
    number: int


def probe_classes(features: np.ndarray, labels: Sequence[str], videos: Sequence[int],
                  min_count: int = 4) -> ProbeResult | None:
    """Read classes, each with the same weight.

    Args:
        features: (n, d).
        labels: (n).
        videos: (n) the video of each sample: each half of the videos is read by a probe that was
            fitted to the other half.
        min_count: samples of a class that each half has to have; other classes are left out.

    Returns:
        None where there are not two such classes.
    """
    labels, videos = np.asarray(labels), np.asarray(videos)
    half = _halves(videos)
    names = [name for name in sorted(set(labels)) if all(
        ((labels == name) & (half == h)).sum() >= min_count for h in (0, 1))]
    if len(names) < 2:
        return None
    kept = np.isin(labels, names)
    labels, half, videos = labels[kept], half[kept], videos[kept]
    target = np.stack([labels == name for name in names], 1).astype(np.float64)
    weights = (target / target.sum(0)).sum(1) * len(labels) / len(names)
    scores = _read(features[kept], target, weights, half, videos)
    right = scores.argmax(1) == target.argmax(1)
    recall = [right[labels == name].mean() for name in names]
    return ProbeResult(100 * float(np.mean(recall)), 100 / len(names), len(labels))


def probe_places(features: np.ndarray, places: np.ndarray, videos: Sequence[int]
                 ) -> ProbeResult | None:
    """Read places.

    Args:
        features: (n, d).
        places: (n, 2) as parts of the sides.
        videos: (n), see :func:`probe_classes`.

    Returns:
        None with fewer than 8 samples in a half.
    """
    videos = np.asarray(videos)
    half = _halves(videos)
    if min((half == 0).sum(), (half == 1).sum()) < 8:
        return None
    found = _read(features, places, np.ones(len(places)), half, videos)
    guess = np.stack([places[half != h].mean(0) for h in half])

    def error(values: np.ndarray) -> float:
        return 100 * float(np.linalg.norm(values - places, axis=1).mean())

    return ProbeResult(error(found), error(guess), len(places))


def _halves(videos: np.ndarray) -> np.ndarray:
    """0 or 1 for each sample, so that no video is in both halves."""
    order = {video: i for i, video in enumerate(sorted(set(videos.tolist())))}
    return np.array([order[video] % 2 for video in videos.tolist()])


def _read(features: np.ndarray, target: np.ndarray, weights: np.ndarray, half: np.ndarray,
          videos: np.ndarray) -> np.ndarray:
    """What ridge regressions, fitted to one half each, read of the other half: (n, k).

    The penalty is chosen on every third video of the half that is fitted to.
    """
    out = np.empty_like(target, dtype=np.float64)
    for h in (0, 1):
        fit, test = np.flatnonzero(half != h), np.flatnonzero(half == h)
        order = {video: i for i, video in enumerate(sorted(set(videos[fit].tolist())))}
        inner = np.array([order[video] % 3 == 0 for video in videos[fit].tolist()])
        if inner.any() and not inner.all():
            tried = _ridge(features[fit[~inner]], target[fit[~inner]], weights[fit[~inner]],
                           features[fit[inner]])
            errors = [(weights[fit[inner], None] * (values - target[fit[inner]]) ** 2).sum()
                      for values in tried]
            best = int(np.argmin(errors))
        else:
            best = len(PENALTIES) // 2
        out[test] = _ridge(features[fit], target[fit], weights[fit], features[test], best)[0]
    return out


def _ridge(x: np.ndarray, y: np.ndarray, weights: np.ndarray, new: np.ndarray,
           penalty: int | None = None) -> list[np.ndarray]:
    """Weighted ridge regression, for all penalties or one of them; values (m, k) of ``new``."""
    x, new = x.astype(np.float64), new.astype(np.float64)
    share = weights[:, None] / weights.sum()
    mean, middle = (share * x).sum(0), (share * y).sum(0)
    scale = np.sqrt((share * (x - mean) ** 2).sum(0)) + 1e-6
    root = np.sqrt(weights)[:, None]
    # One decomposition serves all penalties.
    u, s, vt = np.linalg.svd(root * (x - mean) / scale, full_matrices=False)
    right = u.T @ (root * (y - middle))
    left = (new - mean) / scale @ vt.T
    chosen = PENALTIES if penalty is None else PENALTIES[penalty:penalty + 1]
    return [left @ ((s / (s ** 2 + value))[:, None] * right) + middle for value in chosen]
