"""The protocols that score one binary mask per expression and frame."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

import cv2
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

INFERRED = 'Final, the mean of J&F, N-acc and T-acc, is inferred'
REF_SAV_KINDS = ('long', 'short')
REFERRING, REASON, HALLUCINATION = 'referring', 'reason', 'hallucination'


class ExpressionFrame(NamedTuple):
    """Masks of one expression on one frame.

    Attributes:
        gt: uint8 (H, W), how many of the expression's objects cover the pixel.
        pred: uint8 (H, W), as predicted; any value but 0 is foreground.
        foreground: area in pixels of all annotated objects of the video together, where the
            protocol asks for it (``needs_foreground``).
    """

    gt: np.ndarray
    pred: np.ndarray
    foreground: int | None = None


class ExpressionProtocol(BaseProtocol):
    """J and F of every frame, the mean over frames per expression, the plain mean over expressions.

    Ground truth is the union of an expression's objects, and every frame counts, those included on
    which nothing is visible. Every expression counts the same, however long its video is.
    Expressions without a target (MeViSv2) are scored apart: N-acc is the share of them for which
    nothing was predicted on any frame, T-acc the share of expressions with a target for which
    something was.

    Class attributes:
        needs_foreground: whether ``measure`` reads ``ExpressionFrame.foreground``.
        measures: what ``measure`` returns.
    """

    unit = 'expression'
    part_key = 'per_kind'
    needs_foreground: bool = False
    measures: tuple[str, ...] = ('J', 'F')

    def measure(self, frame: ExpressionFrame) -> dict[str, float]:
        """Measure one frame.

        Returns:
            A figure for each of ``measures``, 0..1.

        Raises:
            ValueError: the masks do not fit together.
        """
        return {'J': region_similarity(frame.gt, frame.pred),
                'F': boundary_accuracy(frame.gt, frame.pred)}

    def score(self, frames: Iterable[ExpressionFrame]) -> tuple[dict[str, list[float]], bool]:
        """Measure all frames of an expression, holding one at a time.

        Returns:
            ``Track.values`` and ``Track.predicted``.
        """
        values: dict[str, list[float]] = {name: [] for name in self.measures}
        predicted = False
        for frame in frames:
            predicted = predicted or bool(frame.pred.any())
            for name, value in self.measure(frame).items():
                values[name].append(value)
        return values, predicted

    def track_notes(self, track: Track) -> dict:
        """Kind, target and prediction; see the base class."""
        return dict(kind=track.kind, has_target=track.has_target, predicted=track.predicted,
                    **track.notes)

    def summarise(self, tracks: Sequence[Track]) -> Summary:
        """Average; see the class and the base class.

        Returns:
            'J', 'F', 'J&F' and 'expressions' of all expressions with a target, and of each kind;
            'N-acc', 'T-acc' and 'no_target_expressions' where some have none.
        """
        targets, remarks = [track for track in tracks if track.has_target], []
        figures = self._means(targets)
        no_targets = [track for track in tracks if not track.has_target]
        if no_targets:
            figures['N-acc'] = float(np.mean([not track.predicted for track in no_targets]))
            figures['no_target_expressions'] = len(no_targets)
            remarks.append(f'N-acc {100 * figures["N-acc"]:.2f} ({len(no_targets)} expressions '
                           'without a target)')
            if targets:
                figures['T-acc'] = float(np.mean([track.predicted for track in targets]))
                remarks.append(f'T-acc {100 * figures["T-acc"]:.2f}')
        kinds = sorted({track.kind for track in targets if track.kind is not None})
        return Summary(figures, {
            kind: self._means([track for track in targets if track.kind == kind])
            for kind in kinds}, tuple(remarks))

    def _means(self, tracks: Sequence[Track]) -> Figures:
        if not tracks:
            return {}
        rows = [self.track_figures(track) for track in tracks]
        return dict(with_mean(mean_figures(rows)), expressions=len(tracks))

    def _rounded_parts(self, tracks: Sequence[Track], kinds: Sequence[str]) -> dict[str, Figures]:
        """Figures of kinds, each expression's rounded to two decimals in percent.

        Returns:
            Those of each of the two kinds that is there; 'overall', their mean, where both are.
        """
        parts = {}
        for kind in kinds:
            rows = [{name: round(100 * track.mean(name), 2) for name in self.measures}
                    for track in tracks if track.kind == kind]
            if rows:
                means = {name: value / 100 for name, value in mean_figures(rows).items()}
                parts[kind] = dict(with_mean(means), expressions=len(rows))
        if len(parts) == len(kinds):
            parts['overall'] = dict(
                mean_figures(list(parts.values())),
                expressions=sum(figures['expressions'] for figures in parts.values()))
        return parts


class MeViSProtocol(ExpressionProtocol):
    """The protocol of MeViS (https://henghuiding.github.io/MeViS/), and of MeViSv2.

    See :class:`ExpressionProtocol`, which has its rules. Any value but 0 in a prediction is
    foreground. The official script rounds only what it prints, and it silently drops an expression
    with a missing frame or one of the wrong size; here that is an error.

    'Final', by which the server of MeViSv2 ranks, is the mean of J&F, N-acc and T-acc. This is
    inferred, not read: the report of a challenge's winner (https://arxiv.org/abs/2604.00404) states
    Final 0.909 at J&F 0.790, which two accuracies of 0.97 make so; no source of the formula was
    found. The JSON document says so under 'inferred'.
    """

    name = 'mevis'
    total_name = 'all with a target'

    def summarise(self, tracks: Sequence[Track]) -> Summary:
        """Average, and add 'Final' where there are N-acc and T-acc; see the base class."""
        summary = super().summarise(tracks)
        figures = summary.dataset
        if 'N-acc' in figures and 'T-acc' in figures:
            figures['Final'] = (figures['J&F'] + figures['N-acc'] + figures['T-acc']) / 3
            return replace(summary, remarks=(
                *summary.remarks, f'Final {100 * figures["Final"]:.2f} ({INFERRED})'))
        return summary

    def document(self, tracks: Sequence[Track], summary: Summary) -> dict:
        """Say what is inferred; see the base class."""
        document = super().document(tracks, summary)
        if 'Final' in summary.dataset:
            document['inferred'] = {'Final': INFERRED}
        return document


class GroundMoReProtocol(ExpressionProtocol):
    """The protocol of GroundMoRe (https://github.com/dengandong/GroundMoRe).

    See :class:`ExpressionProtocol`: the plain mean over all questions, and over those of each type.
    The data set (:class:`glus_mm.datasets.GroundMoReDataset`) chooses the 20 frames of a clip and
    takes the target away outside of the action, so that all of its frames count.
    """

    name = 'groundmore'


class ReasonVOSProtocol(ExpressionProtocol):
    """The protocol of ReasonVOS (https://github.com/showlab/VideoLISA).

    See :class:`ExpressionProtocol`: all frames, the plain mean over expressions. The official
    script leaves out expressions whose folder of predictions is missing (``--missing skip``).
    """

    name = 'reason-vos'


PARTS = {'static': 'static', 'dynamic': 'dynamic', 'hybrid': 'static+dynamic'}
"""Parts of the result, and the ``type`` of their expressions in the annotation."""


class LongRVOSProtocol(ExpressionProtocol):
    """The protocol of Long-RVOS (https://github.com/iSEE-Laboratory/Long_RVOS, eval/).

    J and F as in :class:`ExpressionProtocol`. With G the frames on which the target is visible and
    P those on which something was predicted, ``tIoU = |G and P| / |G or P|``, and vIoU is the
    sum of J over the frames of both, divided by ``|G or P|``; both are 1 where neither has a frame.
    Averages are plain means over expressions: of each type, and over all of them.

    An expression of another ``type`` than 'static', 'dynamic' and 'static+dynamic' (hybrid) enters
    no average, as in the official scripts, which look for these words; it is listed. Where nothing
    was predicted for a whole video, which has no folder, all figures of its expressions are 0.
    """

    name = 'long-rvos'
    part_key = None
    total_name = 'overall'
    measures = ('J', 'F', 'visible', 'found')
    unpredicted_video_is_zero = True

    def measure(self, frame: ExpressionFrame) -> dict[str, float]:
        """Measure J and F; whether the target is visible and whether something was predicted."""
        return dict(super().measure(frame), visible=float(cv2.countNonZero(frame.gt) > 0),
                    found=float(cv2.countNonZero(frame.pred) > 0))

    def track_figures(self, track: Track) -> Figures:
        """'J', 'F', 'J&F', 'tIoU' and 'vIoU'; see the base class."""
        figures = with_mean({name: track.mean(name) for name in ('J', 'F')})
        if track.video_unpredicted:
            return dict(figures, tIoU=0.0, vIoU=0.0)
        frames = list(zip(track.values['J'], track.values['visible'], track.values['found']))
        either = sum(visible or found for _, visible, found in frames)
        both = [j for j, visible, found in frames if visible and found]
        if not either:
            return dict(figures, tIoU=1.0, vIoU=1.0)
        return dict(figures, tIoU=len(both) / either, vIoU=sum(both) / either)

    def summarise(self, tracks: Sequence[Track]) -> Summary:
        """Average; see the class.

        Returns:
            The figures 'overall' as those of the data set; 'static', 'dynamic', 'hybrid' and
            'overall' as parts, with the number of expressions. 'other_expressions' is the number
            of those that enter none.
        """
        parts: dict[str, Figures] = {
            part: self._means([track for track in tracks if track.kind == kind])
            or {'expressions': 0} for part, kind in PARTS.items()}
        parts['overall'] = self._means([track for track in tracks if track.kind in PARTS.values()])
        others = sum(track.kind not in PARTS.values() for track in tracks)
        return _with_left_out(parts['overall'], parts, 'other_expressions', others,
                              f'of a type other than {", ".join(PARTS.values())}')


def _with_left_out(figures: Figures, parts: dict[str, Figures], name: str, number: int,
                   kind: str) -> Summary:
    """A summary that counts the expressions of a kind that enter no average, where there are."""
    if not number:
        return Summary(dict(figures), parts)
    return Summary(dict(figures, **{name: number}), parts,
                   (f'{number} expressions {kind} enter no average', ))


class RefSAVProtocol(ExpressionProtocol):
    """The two ways in which Ref-SAV is reported.

    The figures of the data set are the plain means over expressions, as UniPixel
    (https://github.com/PolyU-ChenLab/UniPixel, unipixel/eval/eval_seg.py) computes J, F and J&F.
    Where the annotation says which expressions are 'long' and which 'short', there are their
    figures, too, and those 'overall', the mean of the two, as Sa2VA
    (https://github.com/magic-research/Sa2VA, tools/eval/eval_refsam2.py) reports them: each
    expression is rounded to two decimals in percent before it is averaged. A is the share of pixels
    in which prediction (0 or 1) and the sum of the expression's objects are the same number.

    Where nothing was predicted for a whole video, all figures of its expressions are 0.
    """

    name = 'ref-sav'
    part_key = None
    measures = ('J', 'F', 'A')
    unpredicted_video_is_zero = True

    def measure(self, frame: ExpressionFrame) -> dict[str, float]:
        """Measure J, F and A of one frame; see the base class."""
        same = np.count_nonzero(frame.gt == (frame.pred != 0))
        return dict(super().measure(frame), A=same / frame.pred.size)

    def summarise(self, tracks: Sequence[Track]) -> Summary:
        """Average; see the class.

        Returns:
            Figures of the data set; 'long', 'short' and 'overall' as parts, where the expressions
            have these kinds.
        """
        return Summary(self._means(tracks), self._rounded_parts(tracks, REF_SAV_KINDS))


REVOS_KINDS = (REFERRING, REASON, HALLUCINATION)
"""Kinds of expressions, by ``type_id``."""
PRED_VALUES = (255, 1)
"""What foreground pixels of a prediction may be worth in A and R."""


class ReVOSProtocol(ExpressionProtocol):
    """The protocol of ReVOS (https://github.com/cilinyan/ReVOS-api), as VISA and GLUS report it.

    J and F as in :class:`ExpressionProtocol`. Each expression's figures are rounded to two decimals
    in percent before they are averaged: over the 'referring' expressions, over the 'reason' ones,
    and 'overall' is the mean of the two. J&F is the mean of averaged J and F. Expressions of kind
    'hallucination' enter no average; they are listed.

    A (accuracy) is the share of pixels in which prediction and ground truth are the same number. R
    (robustness) is 1 - falsely predicted area / area of all objects of the video, not below 0. The
    official script computes both with raw bytes, so that they depend on what a foreground pixel of
    a prediction is worth: 255 in the PNGs that VISA and GLUS write, 1 in Sa2VA's own evaluation.
    This is why it must be said with the figures, and why there are two of each here. Bytes also
    mean that the objects of an expression are added (2 where two overlap, which no prediction
    equals), and that 1 - 2 is 255.

    Args:
        pred_values: 255 = the pixels' values as they are; 1 = any value but 0 counts as 1. With
            both, the measures are named ``A_255``, ``R_255``, ``A_1``, ``R_1``, otherwise ``A``
            and ``R``.

    Raises:
        ValueError: ``pred_values`` holds anything else.
    """

    name = 'revos'
    part_key = None
    total_name = 'overall'
    needs_foreground = True

    def __init__(self, pred_values: Sequence[int] = (255, )) -> None:
        if not pred_values or not set(pred_values) <= set(PRED_VALUES):
            raise ValueError(f'pred_values: expected 255, 1 or both, got {list(pred_values)}')
        self.pred_values = tuple(pred_values)
        self._names = {value: (f'A_{value}', f'R_{value}') if len(self.pred_values) > 1
                       else ('A', 'R') for value in self.pred_values}
        self.measures = ('J', 'F', *(name for names in self._names.values() for name in names))

    def measure(self, frame: ExpressionFrame) -> dict[str, float]:
        """Measure J, F, A and R of one frame; see the base class."""
        figures = super().measure(frame)
        for value, (accuracy, robustness) in self._names.items():
            pred = frame.pred if value == 255 else (frame.pred != 0).astype(np.uint8)
            figures[accuracy] = np.count_nonzero(frame.gt == pred) / pred.size
            false = int(np.sum((np.uint8(1) - frame.gt) * pred))
            figures[robustness] = max(1 - false / (frame.foreground + 1e-6), 0.0)
        return figures

    def summarise(self, tracks: Sequence[Track]) -> Summary:
        """Average; see the class.

        Returns:
            The figures 'overall' as those of the data set; 'referring', 'reason' and 'overall'
            as parts, with the number of expressions. With expressions of one kind only, there
            is no 'overall'. 'hallucination_expressions' is the number of those that enter none.

        Raises:
            ValueError: an expression has no kind, or an unknown one.
        """
        for track in tracks:
            if track.kind not in REVOS_KINDS:
                raise ValueError(f'expected one of the kinds {", ".join(REVOS_KINDS)} for the '
                                 f'ReVOS expression {track.exp_id!r} of video '
                                 f'{track.video_id!r}, got {track.kind!r}')
        parts = self._rounded_parts(tracks, (REFERRING, REASON))
        summary = _with_left_out(
            parts.get('overall', {}), parts, 'hallucination_expressions',
            sum(track.kind == HALLUCINATION for track in tracks), f'of kind {HALLUCINATION!r}')
        worth = f'A and R with foreground pixels of value {self.pred_values[0]}'
        return replace(summary, remarks=(
            *summary.remarks, *[worth] * (len(self.pred_values) == 1)))


class RefDAVISGLUSProtocol(ExpressionProtocol):
    """Ref-DAVIS17 with one folder of binary masks per expression, as VISA and GLUS report it.

    See :class:`ExpressionProtocol`: all frames, the plain mean over expressions. There is no
    competition between the objects of a video, no matching, and void pixels count as background,
    so that the figures are not those of :class:`RefDAVISProtocol`. The official script rounds the
    result to two decimals in percent.
    """

    name = 'ref-davis-glus'
