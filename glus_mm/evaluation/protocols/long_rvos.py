"""Long-RVOS."""

from collections.abc import Sequence

import cv2

from glus_mm.evaluation.protocols.base_protocol import Figures, Summary, Track
from glus_mm.evaluation.protocols.expression_protocol import ExpressionFrame, ExpressionProtocol

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

    def expression_figures(self, track: Track) -> Figures:
        """'J', 'F', 'tIoU' and 'vIoU'; see the base class."""
        figures: Figures = {name: track.mean(name) for name in ('J', 'F')}
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
        counts = {'other_expressions': others} if others else {}
        return Summary({**parts['overall'], **counts}, parts)

    def table(self, summary: Summary) -> str:
        """Add the number of expressions that enter no average; see the base class."""
        lines = [super().table(summary)]
        others = summary.dataset.get('other_expressions')
        if others:
            lines.append(f'{others} expressions of a type other than {", ".join(PARTS.values())} '
                         'enter no average')
        return '\n'.join(lines)
