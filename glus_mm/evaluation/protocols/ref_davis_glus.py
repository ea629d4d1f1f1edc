"""Ref-DAVIS17 in the way of VISA and GLUS."""

from glus_mm.evaluation.protocols.expression_protocol import ExpressionProtocol


class RefDAVISGLUSProtocol(ExpressionProtocol):
    """Ref-DAVIS17 with one folder of binary masks per expression, as VISA and GLUS report it.

    See :class:`ExpressionProtocol`: all frames, the plain mean over expressions. There is no
    competition between the objects of a video, no matching, and void pixels count as background,
    so that the figures are not those of :class:`RefDAVISProtocol`. The official script rounds the
    result to two decimals in percent.
    """

    name = 'ref-davis-glus'
