"""GroundMoRe and ReasonVOS, which have the plain rules."""

from glus_mm.evaluation.protocols.expression_protocol import ExpressionProtocol


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
