"""From scores to a key frame."""

from collections.abc import Sequence

import numpy as np


def best_frame(scores: Sequence[float] | np.ndarray) -> int:
    """The frame with the highest score; the official rule.

    Args:
        scores: (T), nan where a frame has none.

    Returns:
        0-based position; the later one of equal scores, and the middle frame, ``T // 2``, where
        no frame has a score.

    Raises:
        ValueError: there is no frame.
    """
    scores = np.asarray(scores, dtype=np.float64)
    if scores.ndim != 1 or not len(scores):
        raise ValueError(f'expected scores (T) of at least one frame, got shape {scores.shape}')
    if np.isnan(scores).all():
        return len(scores) // 2
    return int(np.flatnonzero(scores == np.nanmax(scores))[-1])
