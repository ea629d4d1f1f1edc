"""Loss on the scores of frames."""

from mmengine.model import BaseModule
from torch import Tensor

from glus_mm.registry import MODELS


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
