"""DAVIS 2017, semi-supervised."""

from collections.abc import Iterable

from glus_mm.evaluation.protocols.object_protocol import (
    LabelFrame,
    ObjectProtocol,
    ObjectScore,
    measure_pair,
)


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
