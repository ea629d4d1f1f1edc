"""Ref-DAVIS17 in the way of ReferFormer."""

from collections.abc import Iterable, Sequence

import numpy as np

from glus_mm.evaluation.protocols.base_protocol import Summary, Track, mean_figures
from glus_mm.evaluation.protocols.davis import DAVISUnsupProtocol
from glus_mm.evaluation.protocols.expression_protocol import ExpressionProtocol

NUM_ANNOTATORS = 4
ANNOTATORS = tuple(f'anno_{a}' for a in range(NUM_ANNOTATORS))
"""The four annotations of each object: two annotators, each for the first frame and the video."""


class RefDAVISProtocol(DAVISUnsupProtocol):
    """Ref-DAVIS17 as ReferFormer (https://github.com/wjn922/ReferFormer) evaluates it.

    The masks of a sequence's expressions become four sequences of label maps, one for each
    annotation (see :func:`place_of` and :func:`merge_masks`). The unsupervised protocol of DAVIS
    2017 scores each of them; the result is the mean of the four.
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
            parts[name] = {key: part[key] for key in ('dataset', 'per_object', 'per_frame')}
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


def place_of(exp_id: str, where: str) -> tuple[int, int]:
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


class RefDAVISGLUSProtocol(ExpressionProtocol):
    """Ref-DAVIS17 with one folder of binary masks per expression, as VISA and GLUS report it.

    See :class:`ExpressionProtocol`: all frames, the plain mean over expressions. There is no
    competition between the objects of a video, no matching, and void pixels count as background,
    so that the figures are not those of :class:`RefDAVISProtocol`. The official script rounds the
    result to two decimals in percent.
    """

    name = 'ref-davis-glus'
