"""What the protocols share that score one binary mask per expression and frame."""

from collections.abc import Iterable, Sequence
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

    def expression_figures(self, track: Track) -> Figures:
        """What is averaged of an expression: by default the mean of each measure over frames."""
        return {name: track.mean(name) for name in track.values}

    def track_figures(self, track: Track) -> Figures:
        """What is averaged, and J&F; see the base class."""
        return with_mean(self.expression_figures(track))

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
        targets = [track for track in tracks if track.has_target]
        figures = self._means(targets)
        no_targets = [track for track in tracks if not track.has_target]
        if no_targets:
            figures['N-acc'] = float(np.mean([not track.predicted for track in no_targets]))
            figures['no_target_expressions'] = len(no_targets)
            if targets:
                figures['T-acc'] = float(np.mean([track.predicted for track in targets]))
        kinds = sorted({track.kind for track in targets if track.kind is not None})
        return Summary(figures, {
            kind: self._means([track for track in targets if track.kind == kind])
            for kind in kinds})

    def _means(self, tracks: Sequence[Track]) -> Figures:
        if not tracks:
            return {}
        rows = [self.expression_figures(track) for track in tracks]
        return dict(with_mean(mean_figures(rows)), expressions=len(tracks))

    def table(self, summary: Summary) -> str:
        """Add N-acc and T-acc to the lines; see the base class."""
        figures = summary.dataset
        # MeViSv2 without any target: a table would have no line.
        lines = [super().table(summary)] if 'J' in figures or summary.parts else []
        if 'N-acc' in figures:
            lines.append(f'N-acc {100 * figures["N-acc"]:.2f} '
                         f'({figures["no_target_expressions"]} expressions without a target)')
        if 'T-acc' in figures:
            lines.append(f'T-acc {100 * figures["T-acc"]:.2f}')
        return '\n'.join(lines)
