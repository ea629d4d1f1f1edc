"""ReVOS."""

from collections.abc import Sequence

import numpy as np

from glus_mm.evaluation.protocols.base_protocol import (
    Figures,
    Summary,
    Track,
    mean_figures,
    with_mean,
)
from glus_mm.evaluation.protocols.expression_protocol import ExpressionFrame, ExpressionProtocol

REFERRING, REASON, HALLUCINATION = 'referring', 'reason', 'hallucination'
KINDS = (REFERRING, REASON, HALLUCINATION)
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
            if track.kind not in KINDS:
                raise ValueError(f'expected one of the kinds {", ".join(KINDS)} for the ReVOS '
                                 f'expression {track.exp_id!r} of video {track.video_id!r}, got '
                                 f'{track.kind!r}')
        parts = {kind: self._part(kind, tracks) for kind in (REFERRING, REASON)}
        parts = {kind: figures for kind, figures in parts.items() if figures}
        listed = sum(track.kind == HALLUCINATION for track in tracks)
        counts = {'hallucination_expressions': listed} if listed else {}
        if len(parts) < 2:
            return Summary(counts, parts)
        overall = mean_figures(list(parts.values()))
        overall['expressions'] = sum(figures['expressions'] for figures in parts.values())
        return Summary({**overall, **counts}, dict(parts, overall=overall))

    def table(self, summary: Summary) -> str:
        """Add the number of expressions that enter no average; see the base class."""
        lines = [super().table(summary)]
        listed = summary.dataset.get('hallucination_expressions')
        if listed:
            lines.append(f'{listed} expressions of kind {HALLUCINATION!r} enter no average')
        if len(self.pred_values) == 1:
            lines.append(f'A and R with foreground pixels of value {self.pred_values[0]}')
        return '\n'.join(lines)

    def _part(self, kind: str, tracks: Sequence[Track]) -> Figures:
        """Figures of the expressions of one kind; nothing where there are none."""
        rows = [{name: round(100 * track.mean(name), 2) for name in self.measures}
                for track in tracks if track.kind == kind]
        if not rows:
            return {}
        figures = with_mean({name: value / 100 for name, value in mean_figures(rows).items()})
        figures['expressions'] = len(rows)
        return figures
