"""A mask loss that takes the place of one of glus_mm's."""

from mmengine.model import BaseModule
from torch import Tensor
from torch.nn import functional as F

from example_project.registry import MODELS


@MODELS.register_module()
class FocalMaskLoss(BaseModule):
    """Binary cross-entropy that counts pixels less the surer the model is of them.

    Args:
        gamma: how much less; 0 is plain cross-entropy.
        loss_weight: factor of the result.
    """

    def __init__(self, gamma: float = 2.0, loss_weight: float = 2.0) -> None:
        super().__init__()
        self.gamma = gamma
        self.loss_weight = loss_weight

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Loss per mask.

        Args:
            logits: (K, H, W).
            target: (K, H, W), 0 and 1.

        Returns:
            (K), weighted.
        """
        target = target.to(logits.dtype)
        loss = F.binary_cross_entropy_with_logits(logits, target, reduction='none')
        miss = (logits.sigmoid() - target).abs() ** self.gamma
        return self.loss_weight * (miss * loss).flatten(1).mean(1)
