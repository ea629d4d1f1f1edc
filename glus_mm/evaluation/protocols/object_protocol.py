"""What the DAVIS protocols share, which score label maps with one object per pixel."""

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from glus_mm.evaluation.functional import boundary_accuracy, region_similarity
from glus_mm.evaluation.protocols.base_protocol import (
    BaseProtocol,
    Figures,
    Summary,
    Track,
    mean_figures,
    with_mean,
)

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


VOID = 255
"""Value of ground-truth pixels that belong to no object and not to the background."""


class LabelFrame(NamedTuple):
    """Label maps of one frame: 0 is background, an object's pixels hold its number.

    Attributes:
        gt: uint8 (H, W), 255 = void.
        pred: uint8 (H, W).
    """

    gt: np.ndarray
    pred: np.ndarray


class ObjectScore(NamedTuple):
    """Figures of one object of a sequence.

    Attributes:
        number: the number that the official code gives it in its results.
        values: ``{'J': [...], 'F': [...]}``, one figure per frame.
        notes: what else is listed.
    """

    number: int
    values: dict[str, list[float]]
    notes: dict[str, int]


class ObjectProtocol(BaseProtocol):
    """J and F per object, their mean, recall and decay, and the plain mean over all objects.

    A sequence has as many objects as the highest number in its first true label map; objects that
    appear later are not counted, as in davis2017-evaluation. Every object counts the same.

    Class attributes:
        annotation_folder: folder of DAVIS 2017 with the true label maps.
        measures: what is measured on a frame.
    """

    unit = 'object'
    annotation_folder: str = ''
    measures: tuple[str, ...] = ('J', 'F')

    @abstractmethod
    def frames_to_score(self, num_frames: int) -> range:
        """Which frames of a sequence count.

        Returns:
            0-based positions.
        """

    @abstractmethod
    def max_label(self, num_objects: int) -> int:
        """Highest number that a predicted label map may hold."""

    @abstractmethod
    def score(self, frames: Iterable[LabelFrame], num_objects: int) -> list[ObjectScore]:
        """Score a sequence, holding one frame at a time.

        Args:
            frames: those of ``frames_to_score``, in their order; no label above ``max_label``.
            num_objects: number of true objects.
        """

    def track_figures(self, track: Track) -> Figures:
        """'J', 'F' and 'J&F'; recall and decay of J and F. See the base class."""
        figures: Figures = {}
        extra: Figures = {}
        for measure, values in track.values.items():
            figures[measure], extra[f'{measure}-Recall'], extra[f'{measure}-Decay'] = \
                davis_statistics(values)
        return {**with_mean(figures), **extra}

    def summarise(self, tracks: Sequence[Track]) -> Summary:
        """Means over all objects of what ``track_figures`` returns, and 'objects'."""
        figures = mean_figures([self.track_figures(track) for track in tracks])
        return Summary(dict(figures, objects=len(tracks)) if figures else {})


def count_objects(labels: np.ndarray) -> int:
    """Number of objects of a sequence.

    Args:
        labels: its first true label map, uint8 (H, W).

    Returns:
        The highest number in it but for void.
    """
    return int(np.where(labels == VOID, 0, labels).max())


def measure_pair(gt: np.ndarray, pred: np.ndarray) -> tuple[float, float]:
    """J and F of two binary masks (H, W)."""
    return region_similarity(gt, pred), boundary_accuracy(gt, pred)


def labels_in(labels: np.ndarray) -> Iterator[int]:
    """The numbers but 0 that occur in a label map, ascending.

    Args:
        labels: integers (H, W).
    """
    counts = np.bincount(labels.ravel(), minlength=256)
    yield from (int(label) for label in np.flatnonzero(counts) if label)
