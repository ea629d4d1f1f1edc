"""ReasonVOS."""

from glus_mm.evaluation.protocols.expression_protocol import ExpressionProtocol


class ReasonVOSProtocol(ExpressionProtocol):
    """The protocol of ReasonVOS (https://github.com/showlab/VideoLISA).

    See :class:`ExpressionProtocol`: all frames, the plain mean over expressions. The official
    script leaves out expressions whose folder of predictions is missing (``--missing skip``).
    """

    name = 'reason-vos'
