"""Losses on answers: their tokens, and the scores that a selector reads of them."""

from mmengine.model import BaseModule
from torch import Tensor
from torch.nn import functional as F

from glus_mm.registry import MODELS

# PyTorch's mark of what is not supervised.
_IGNORED = -100


@MODELS.register_module()
class TokenCELoss(BaseModule):
    """Mean cross-entropy over the supervised tokens of a batch.

    Which tokens are supervised is ``model.ce_target``: ``[SEG]`` only, as the official code
    does, or the whole answer.

    Args:
        loss_weight: factor of the result.
    """

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.loss_weight = loss_weight

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Loss of a batch.

        Args:
            logits: (K, vocabulary).
            target: (K) token ids; -100 is left out.

        Returns:
            Scalar, weighted; 0 where nothing is supervised, which has no mean.
        """
        if not (target != _IGNORED).any():
            return logits.float().sum() * 0
        return self.loss_weight * F.cross_entropy(logits.float(), target)


@MODELS.register_module()
class FrameScoreLoss(BaseModule):
    """Mean absolute difference between scores and the IoU of their frames (paper, section B.4).

    Args:
        loss_weight: factor of the result.
    """

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.loss_weight = loss_weight

    def forward(self, scores: Tensor, target: Tensor) -> Tensor:
        """Loss of a batch.

        Args:
            scores: (N).
            target: (N), IoU in 0..1.

        Returns:
            Scalar, weighted.
        """
        return self.loss_weight * (scores - target.to(scores.dtype)).abs().mean()
