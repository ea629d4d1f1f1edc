"""MeViS."""

from glus_mm.evaluation.protocols.expression_protocol import ExpressionProtocol


class MeViSProtocol(ExpressionProtocol):
    """The protocol of MeViS (https://henghuiding.github.io/MeViS/), and of MeViSv2.

    See :class:`ExpressionProtocol`, which has its rules. Any value but 0 in a prediction is
    foreground. The official script rounds only what it prints, and it silently drops an expression
    with a missing frame or one of the wrong size; here that is an error.
    """

    name = 'mevis'
    total_name = 'all with a target'
