"""DAVIS 2017, semi-supervised and unsupervised."""

from collections.abc import Iterable

import numpy as np

from glus_mm.evaluation.protocols.object_protocol import (
    VOID,
    LabelFrame,
    ObjectProtocol,
    ObjectScore,
    labels_in,
    measure_pair,
)

MAX_PROPOSALS = 20


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

    def max_label(self, num_objects: int) -> int:
        """The number of true objects; see the base class."""
        return num_objects

    def score(self, frames: Iterable[LabelFrame], num_objects: int) -> list[ObjectScore]:
        """Compare each object with the prediction of the same number; see the base class."""
        scores = [ObjectScore(number, {'J': [], 'F': []}, {})
                  for number in range(1, num_objects + 1)]
        for frame in frames:
            for score in scores:
                region, boundary = measure_pair(frame.gt == score.number,
                                                frame.pred == score.number)
                score.values['J'].append(region)
                score.values['F'].append(boundary)
        return scores


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

    def frames_to_score(self, num_frames: int) -> range:
        """All; see the base class."""
        return range(num_frames)

    def max_label(self, num_objects: int) -> int:
        """20 proposals, however many objects there are; see the base class."""
        return MAX_PROPOSALS

    def score(self, frames: Iterable[LabelFrame], num_objects: int) -> list[ObjectScore]:
        """Compare all pairs, then match; see the base class."""
        columns = [_measure_frame(frame, num_objects) for frame in frames]
        # A proposal that is on no frame at all is still one, if a higher number exists.
        num_proposals = max([num_objects, *(max(pairs) for _, pairs in columns)])
        table = np.empty((2, num_proposals, num_objects, len(columns)))
        for t, (unmatched, pairs) in enumerate(columns):
            table[:, :, :, t] = unmatched[:, None]
            for proposal, pair in pairs.items():
                if proposal:
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


def _measure_frame(frame: LabelFrame,
                   num_objects: int) -> tuple[np.ndarray, dict[int, np.ndarray]]:
    """Compare all objects with all proposals that are visible on a frame.

    Returns:
        J and F (2, objects) against a proposal that is not visible; by proposal the same against
        it, and under 0 nothing of interest, so that there is a highest number.
    """
    pred = np.where(frame.gt == VOID, 0, frame.pred)
    objects = [frame.gt == number for number in range(1, num_objects + 1)]
    nothing = np.zeros(pred.shape, dtype=bool)
    unmatched = np.array([measure_pair(mask, nothing) for mask in objects]).T
    # Numbers count even where void covers all their pixels.
    pairs = {0: unmatched, **dict.fromkeys(labels_in(frame.pred), unmatched)}
    for proposal in labels_in(pred):
        mask = pred == proposal
        pairs[proposal] = np.array([measure_pair(gt, mask) for gt in objects]).T
    return unmatched, pairs
