"""Ref-SAV."""

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

KINDS = ('long', 'short')


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
        parts = {kind: self._rounded([track for track in tracks if track.kind == kind])
                 for kind in KINDS}
        parts = {kind: figures for kind, figures in parts.items() if figures}
        if len(parts) == len(KINDS):
            parts['overall'] = dict(
                mean_figures(list(parts.values())),
                expressions=sum(figures['expressions'] for figures in parts.values()))
        return Summary(self._means(tracks), parts)

    def _rounded(self, tracks: Sequence[Track]) -> Figures:
        """Figures of the expressions of one kind; nothing where there are none."""
        rows = [{name: round(100 * track.mean(name), 2) for name in self.measures}
                for track in tracks]
        if not rows:
            return {}
        figures = with_mean({name: value / 100 for name, value in mean_figures(rows).items()})
        return dict(figures, expressions=len(rows))
