"""Losses on mask logits, one value per mask."""

from mmengine.model import BaseModule
from torch import Tensor
from torch.nn import functional as F

from glus_mm.registry import MODELS


@MODELS.register_module()
class MaskBCELoss(BaseModule):
    """Binary cross-entropy, mean over the pixels of a mask (section B.2 of the paper).

    Args:
        loss_weight: factor of the result.
    """

    def __init__(self, loss_weight: float = 2.0) -> None:
        super().__init__()
        self.loss_weight = loss_weight

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Loss per mask.

        Args:
            logits: (K, H, W).
            target: (K, H, W), 0 and 1, or a sum of overlapping objects.

        Returns:
            (K), weighted.
        """
        loss = F.binary_cross_entropy_with_logits(logits, target.to(logits.dtype), reduction='none')
        return self.loss_weight * loss.flatten(1).mean(1)


@MODELS.register_module()
class MaskDiceLoss(BaseModule):
    """Dice loss in the official form (section B.2 of the paper).

    ``1 - (2 sum(p g) / s + eps) / (sum(p) / s + sum(g) / s + eps)``.

    Args:
        loss_weight: factor of the result.
        scale: s, keeps the sums of half-precision masks in range.
        eps: makes two empty masks agree.
    """

    def __init__(self, loss_weight: float = 0.5, scale: float = 1000.0, eps: float = 1e-6) -> None:
        super().__init__()
        self.loss_weight = loss_weight
        self.scale = scale
        self.eps = eps

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Loss per mask; arguments and result as in :meth:`MaskBCELoss.forward`."""
        prob = logits.sigmoid().flatten(1)
        target = target.to(prob.dtype).flatten(1)
        both = 2 * (prob / self.scale * target).sum(1)
        sums = (prob / self.scale).sum(1) + (target / self.scale).sum(1)
        return self.loss_weight * (1 - (both + self.eps) / (sums + self.eps))


@MODELS.register_module()
class MaskIoULoss(BaseModule):
    """Absolute difference between the IoU that the mask decoder expects and the one that it has.

    What trains SAM-2's own score, as in its training code (``iou_loss`` with ``use_l1_loss``,
    the setting of its released configs): the true IoU is a constant, and the gradient goes through
    the IoU head into the rest of the decoder and its prompt, it is not stopped at the head.

    Args:
        loss_weight: factor of the result.
    """

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.loss_weight = loss_weight

    def forward(self, scores: Tensor, logits: Tensor, target: Tensor) -> Tensor:
        """Loss per mask.

        Args:
            scores: (K), what the decoder expects, 0..1.
            logits: (K, H, W), above 0 on the object.
            target: (K, H, W), above 0 on the object.

        Returns:
            (K), weighted.
        """
        pred, true = logits.detach().flatten(1) > 0, target.flatten(1) > 0
        iou = (pred & true).sum(1) / (pred | true).sum(1).clamp(min=1)
        return self.loss_weight * (scores - iou.to(scores.dtype)).abs()
