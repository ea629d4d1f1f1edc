"""MOSEv2."""

from collections.abc import Iterable, Sequence

import cv2
import numpy as np

from glus_mm.evaluation.functional import adaptive_boundary_accuracy
from glus_mm.evaluation.protocols.base_protocol import Figures, Summary, Track, mean_figures
from glus_mm.evaluation.protocols.object_protocol import LabelFrame, ObjectProtocol, ObjectScore


class MOSEv2Protocol(ObjectProtocol):
    """The protocol of MOSEv2 (https://github.com/henghuiding/MOSE-api, MOSEv2/sam2_rcms/tools).

    Numbers of objects are compared directly; the first and the last frame do not count. J is
    (intersection + 1) / (union + 1), and 1 where both masks are empty. F-dot is F with a tolerance
    that follows the size of the object, see
    :func:`glus_mm.evaluation.functional`. J&F-dot is the mean of J and
    F-dot, J&F that of J and F.

    J&F-d and J&F-r are J&F-dot over the frames after an object disappeared and after it reappeared:
    the mean over the frames of each span, over the spans of an object, and over the objects that
    have one. A span of absence at the first frame that counts is no disappearance.

    Where nothing was predicted for a whole video, J, F and F-dot of its objects are 0.
    """

    name = 'mose-v2'
    unpredicted_video_is_zero = True
    measures = ('J', 'F-dot', 'F', 'visible')

    def frames_to_score(self, num_frames: int) -> range:
        """All but the first and the last; see the base class."""
        return range(1, num_frames - 1)

    def max_label(self, num_objects: int) -> int:
        """Any: what is no object's number is background; see the base class."""
        return 255

    def score(self, frames: Iterable[LabelFrame], num_objects: int) -> list[ObjectScore]:
        """Compare each object with the prediction of the same number; see the base class."""
        scores = [ObjectScore(number, {name: [] for name in self.measures}, {})
                  for number in range(1, num_objects + 1)]
        for frame in frames:
            for score in scores:
                gt, pred = (np.equal(labels, score.number).view(np.uint8) for labels in frame)
                boundary, adaptive = adaptive_boundary_accuracy(gt, pred)
                figures = (_smooth_iou(gt, pred), adaptive, boundary,
                           float(cv2.countNonZero(gt) > 0))
                for name, value in zip(self.measures, figures):
                    score.values[name].append(value)
        return scores

    def track_figures(self, track: Track) -> Figures:
        """'J', 'F-dot', 'F' and their means; 'J&F-d' and 'J&F-r' where there are such frames."""
        return _with_means({name: track.mean(name) for name in ('J', 'F-dot', 'F')},
                           [] if track.video_unpredicted else [_spans(track)])

    def summarise(self, tracks: Sequence[Track]) -> Summary:
        """Means over objects, each over those that have the figure, and 'objects'."""
        if not tracks:
            return Summary({})
        figures = mean_figures([{name: track.mean(name) for name in ('J', 'F-dot', 'F')}
                                for track in tracks])
        spans = [_spans(track) for track in tracks if not track.video_unpredicted]
        return Summary(dict(_with_means(figures, spans), objects=len(tracks)))


def _smooth_iou(gt: np.ndarray, pred: np.ndarray) -> float:
    """(intersection + 1) / (union + 1) of two masks of 0 and 1; 1 where both are empty."""
    both = cv2.countNonZero(cv2.bitwise_and(gt, pred))
    union = cv2.countNonZero(gt) + cv2.countNonZero(pred) - both
    return (both + 1) / (union + 1)


def _spans(track: Track) -> dict[str, tuple[float, float]]:
    """J and F-dot of an object after it disappeared ('d') and reappeared ('r'), where it did."""
    visible = np.array(track.values['visible']) > 0
    borders = [0, *(np.flatnonzero(visible[1:] != visible[:-1]) + 1), len(visible)]
    values = np.array([track.values['J'], track.values['F-dot']])
    found: dict[str, list[np.ndarray]] = {}
    for start, end in zip(borders[1:-1], borders[2:]):
        found.setdefault('r' if visible[start] else 'd', []).append(
            values[:, start:end].mean(axis=1))
    return {kind: tuple(np.mean(means, axis=0)) for kind, means in found.items()}


def _with_means(figures: Figures, spans: Sequence[dict[str, tuple[float, float]]]) -> Figures:
    """Add the means of J and another figure."""
    result: Figures = dict(figures)
    for kind in ('d', 'r'):
        found = [objects[kind] for objects in spans if kind in objects]
        if found:
            result[f'J&F-{kind}'] = float(np.mean(np.mean(found, axis=0)))
    return {'J&F-dot': (figures['J'] + figures['F-dot']) / 2, **result,
            'J&F': (figures['J'] + figures['F']) / 2}
