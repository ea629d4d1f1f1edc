"""The protocols that score label maps with one object per pixel."""

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import cv2
import numpy as np

from glus_mm.evaluation.functional import (
    adaptive_boundary_accuracy,
    boundary_accuracy,
    region_similarity,
)
from glus_mm.evaluation.protocols.base_protocol import (
    BaseProtocol,
    Figures,
    Summary,
    Track,
    mean_figures,
    with_mean,
)

_NUM_BINS = 4
MAX_PROPOSALS = 20
NUM_ANNOTATORS = 4


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

    def frames_to_score(self, num_frames: int) -> range:
        """0-based positions of the frames of a sequence that count; by default all."""
        return range(num_frames)

    def max_label(self, num_objects: int) -> int:
        """Highest number that a predicted label map may hold, by default that of the objects."""
        return num_objects

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


class DAVISSemiProtocol(ObjectProtocol):
    """The semi-supervised protocol of davis2017-evaluation.

    Numbers of objects are compared directly. The first frame, whose masks are given to the
    methods, and the last one do not count. Void pixels are background. A predicted number above
    that of the objects is an error, upon which the official code exits.
    """

    name = 'davis-semi'
    annotation_folder = 'Annotations'

    def frames_to_score(self, num_frames: int) -> range:
        """All but the first and the last; see the base class."""
        return range(1, num_frames - 1)

    def score(self, frames: Iterable[LabelFrame], num_objects: int) -> list[ObjectScore]:
        """Compare each object with the prediction of the same number; see the base class."""
        scores = [ObjectScore(number, {name: [] for name in self.measures}, {})
                  for number in range(1, num_objects + 1)]
        for frame in frames:
            for score in scores:
                figures = self.measure(frame.gt == score.number, frame.pred == score.number)
                for name, value in zip(self.measures, figures):
                    score.values[name].append(value)
        return scores

    def measure(self, gt: np.ndarray, pred: np.ndarray) -> tuple[float, ...]:
        """A figure for each of ``measures`` from two binary masks, bool (H, W)."""
        return region_similarity(gt, pred), boundary_accuracy(gt, pred)


class DAVISUnsupProtocol(ObjectProtocol):
    """The unsupervised protocol of davis2017-evaluation.

    All frames count. Void pixels are left out of both masks. Predicted objects are proposals, at
    most 20; each true object gets one of its own, such that the mean of J and F over frames and
    objects is the highest.

    The official results are in the order of the proposals: ``<sequence>_1`` is the proposal with
    the lowest number among those that were given to an object, not object 1. This is kept, and
    the object is listed.
    """

    name = 'davis-unsup'
    annotation_folder = 'Annotations_unsupervised'

    def max_label(self, num_objects: int) -> int:
        """20 proposals, however many objects there are; see the base class."""
        return MAX_PROPOSALS

    def score(self, frames: Iterable[LabelFrame], num_objects: int) -> list[ObjectScore]:
        """Compare all pairs, then match; see the base class."""
        columns: list[dict[int, np.ndarray]] = []
        for frame in frames:
            pred = np.where(frame.gt == VOID, 0, frame.pred)
            objects = [frame.gt == number for number in range(1, num_objects + 1)]
            # J and F (2, objects) by proposal; under 0 those of one that is not visible.
            pairs = {0: _measure_all(objects, np.zeros(pred.shape, dtype=bool))}
            # Numbers count even where void covers all their pixels.
            for number in np.flatnonzero(np.bincount(frame.pred.ravel(), minlength=256)[1:]) + 1:
                mask = pred == number
                pairs[int(number)] = _measure_all(objects, mask) if mask.any() else pairs[0]
            columns.append(pairs)
        # A proposal that is on no frame at all is still one, if a higher number exists.
        num_proposals = max([num_objects, *map(max, columns)])
        table = np.empty((2, num_proposals, num_objects, len(columns)))
        for t, pairs in enumerate(columns):
            table[:, :, :, t] = pairs.pop(0)[:, None]
            for proposal, pair in pairs.items():
                table[:, proposal - 1, :, t] = pair
        means = table.mean(axis=3)
        from scipy.optimize import linear_sum_assignment  # takes half a second

        rows, objects = linear_sum_assignment(-(means[0] + means[1]) / 2)
        scores = []
        for number, (row, obj) in enumerate(zip(rows, objects), start=1):
            values = {'J': table[0, row, obj].tolist(), 'F': table[1, row, obj].tolist()}
            notes = {'object': int(obj) + 1, 'proposal': int(row) + 1}
            scores.append(ObjectScore(number, values, notes))
        return scores


def _measure_all(objects: Sequence[np.ndarray], pred: np.ndarray) -> np.ndarray:
    """J and F (2, objects) of a mask (H, W) against each object."""
    return np.array([(region_similarity(gt, pred), boundary_accuracy(gt, pred))
                     for gt in objects]).T


ANNOTATORS = tuple(f'anno_{a}' for a in range(NUM_ANNOTATORS))
"""The four annotations of each object: two annotators, each for the first frame and the video."""


class RefDAVISProtocol(DAVISUnsupProtocol):
    """Ref-DAVIS17 as ReferFormer (https://github.com/wjn922/ReferFormer) evaluates it.

    The masks of a sequence's expressions become four sequences of label maps, one for each
    annotation (see :func:`object_and_annotation` and :func:`merge_masks`). The unsupervised
    protocol of DAVIS 2017 scores each of them; the result is the mean of the four.
    """

    name = 'ref-davis'
    part_key = 'per_annotator'
    total_name = 'mean'

    def summarise(self, tracks: Sequence[Track]) -> Summary:
        """Average each annotation on its own, then all of them; see the base class.

        Raises:
            ValueError: a track belongs to none of the four annotations.
        """
        if any(track.part not in ANNOTATORS for track in tracks):
            raise ValueError(f'expected each track to belong to one of {", ".join(ANNOTATORS)}, '
                             f'got {sorted({str(track.part) for track in tracks})}')
        parts = {name: super(RefDAVISProtocol, self).summarise(_of(tracks, name)).dataset
                 for name in ANNOTATORS}
        parts = {name: figures for name, figures in parts.items() if figures}
        figures = mean_figures(list(parts.values()))
        if figures:
            figures['objects'] = sum(part['objects'] for part in parts.values())
        return Summary(figures, parts)

    def document(self, tracks: Sequence[Track], summary: Summary) -> dict:
        """Means over the annotations, and each of them; see the base class.

        Returns:
            As the base class: 'dataset', 'per_object' and 'per_frame' are means over the
            annotations, and 'per_annotator' holds the three for each of ``anno_0`` to ``anno_3``.
        """
        parts = {}
        for name, figures in summary.parts.items():
            part = super().document(_of(tracks, name), Summary(figures))
            del part['protocol']
            parts[name] = part
        keys = list(dict.fromkeys(key for part in parts.values() for key in part['per_frame']))
        per_object, per_frame = {}, {}
        for key in keys:
            found = [part for part in parts.values() if key in part['per_frame']]
            names = [name for name, value in found[0]['per_object'][key].items()
                     if isinstance(value, float)]
            per_object[key] = mean_figures(
                [{name: part['per_object'][key][name] for name in names} for part in found])
            per_frame[key] = {
                measure: np.mean([part['per_frame'][key][measure] for part in found],
                                 axis=0).tolist() for measure in found[0]['per_frame'][key]}
        return {'protocol': self.name, 'dataset': dict(summary.dataset), 'per_object': per_object,
                'per_frame': per_frame, 'per_annotator': parts}


def _of(tracks: Sequence[Track], part: str) -> list[Track]:
    return [track for track in tracks if track.part == part]


def object_and_annotation(exp_id: str, where: str) -> tuple[int, int]:
    """Find out to which object and annotation an expression of Ref-DAVIS17 belongs.

    Args:
        exp_id: its id, ``4 * k + a`` for annotation ``a`` of the k-th object (from 0).
        where: named in an error.

    Returns:
        Number of the object (from 1) and of the annotation (from 0).

    Raises:
        ValueError: the id is no such number.
    """
    if not (exp_id.isascii() and exp_id.isdigit() and len(exp_id) < 5):
        raise ValueError(f'{where}: expected the id of a Ref-DAVIS17 expression to be 4 * object + '
                         f'annotation, got {exp_id!r}')
    number, annotation = divmod(int(exp_id), NUM_ANNOTATORS)
    return number + 1, annotation


def merge_masks(masks: Iterable[tuple[int, np.ndarray]], size: tuple[int, int]) -> np.ndarray:
    """Make a label map of the masks of several objects.

    ReferFormer takes the object with the highest probability. Masks have none any more: where
    several cover a pixel, they are equal, and the lowest number wins, as ``argmax`` decides.

    Args:
        masks: number and mask, bool (H, W), of each object.
        size: ``(H, W)``.

    Returns:
        uint8 (H, W).
    """
    labels = np.zeros(size, dtype=np.uint8)
    for number, mask in sorted(masks, key=lambda pair: -pair[0]):
        labels[mask] = number
    return labels


class MOSEv2Protocol(DAVISSemiProtocol):
    """The protocol of MOSEv2 (https://github.com/henghuiding/MOSE-api, MOSEv2/sam2_rcms/tools).

    As :class:`DAVISSemiProtocol`, but that any number that is no object's is background. J is
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

    def max_label(self, num_objects: int) -> int:
        """Any; see the base class."""
        return 255

    def measure(self, gt: np.ndarray, pred: np.ndarray) -> tuple[float, ...]:
        """J, F-dot, F and whether the object is visible; (H, W), see the base class."""
        gt, pred = gt.view(np.uint8), pred.view(np.uint8)
        boundary, adaptive = adaptive_boundary_accuracy(gt, pred)
        both, area = cv2.countNonZero(cv2.bitwise_and(gt, pred)), cv2.countNonZero(gt)
        union = area + cv2.countNonZero(pred) - both
        return (both + 1) / (union + 1), adaptive, boundary, float(area > 0)

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
