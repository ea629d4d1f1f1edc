"""MeViS."""

from collections.abc import Sequence

from glus_mm.evaluation.protocols.base_protocol import Summary, Track
from glus_mm.evaluation.protocols.expression_protocol import ExpressionProtocol

INFERRED = 'Final, the mean of J&F, N-acc and T-acc, is inferred'


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
        return summary

    def document(self, tracks: Sequence[Track], summary: Summary) -> dict:
        """Say what is inferred; see the base class."""
        document = super().document(tracks, summary)
        if 'Final' in summary.dataset:
            document['inferred'] = {'Final': INFERRED}
        return document

    def table(self, summary: Summary) -> str:
        """Add Final; see the base class."""
        figures = dict(summary.dataset)
        final = figures.pop('Final', None)
        lines = [super().table(Summary(figures, summary.parts))]
        if final is not None:
            lines.append(f'Final {100 * final:.2f} ({INFERRED})')
        return '\n'.join(lines)
