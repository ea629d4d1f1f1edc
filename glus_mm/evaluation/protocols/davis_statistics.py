"""Mean, recall and decay of DAVIS."""

from collections.abc import Sequence

import numpy as np

_NUM_BINS = 4


def davis_statistics(values: Sequence[float]) -> tuple[float, float, float]:
    """Sum up a measure over the frames of an object.

    The frames are cut into four bins, neighbours of which share a frame, as in
    davis2017-evaluation. That code holds the borders of the bins as uint8, so that it returns NaN
    for videos of 256 frames and more; this one does not.

    Args:
        values: one figure per frame (T).

    Returns:
        Mean; recall, the share of frames above 0.5; decay, the mean over the first bin minus
        that over the last one.

    Raises:
        ValueError: there is no frame.
    """
    if not len(values):
        raise ValueError('expected figures of at least one frame, got none')
    array = np.asarray(values, dtype=np.float64)
    borders = np.round(np.linspace(1, len(array), _NUM_BINS + 1) + 1e-10).astype(np.int64) - 1
    bins = [array[start:end + 1] for start, end in zip(borders[:-1], borders[1:])]
    return (float(array.mean()), float((array > 0.5).mean()),
            float(bins[0].mean() - bins[-1].mean()))
