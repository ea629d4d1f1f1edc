"""Words that find the visual tokens they name."""

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from glus_mm.registry import MODELS


@MODELS.register_module()
class GroundingLoss(BaseModule):
    """Align the state that predicts ``[SEG]`` with the visual tokens of its target; training only.

    A mask loss, or a loss on places, reaches the words only through attention that looks at every
    object alike: a model that is trained from scratch stays there for a long time. Two terms, at
    the input of one layer of the LLM, make the way short. The first compares contents, as the
    alignment loss of MDETR (arXiv 2104.12763) does: the state, linearly mapped, has to have its
    largest products with the mapped visual tokens of the target. The second is about the layer's
    own attention: from that state it has to fall on the target in the query frame, and thereby
    brings its place along.

    Args:
        width: D of the LLM; GLUS fills it in.
        layer: after how many layers of the LLM states are compared; the attention is that of the
            next one.
        coverage: least part of its cell that a target covers where a token counts as its own.
        content_weight: factor of the first term.
        loss_weight: factor of the result.
    """

    def __init__(self,
                 width: int,
                 layer: int = 3,
                 coverage: float = 0.15,
                 content_weight: float = 1.0,
                 loss_weight: float = 1.0) -> None:
        super().__init__()
        self.layer = layer
        self.coverage = coverage
        self.content_weight = content_weight
        self.loss_weight = loss_weight
        self.word = nn.Linear(width, width)
        self.visual = nn.Linear(width, width)

    def forward(self, words: Tensor, visual: Tensor, attention: Tensor, cells: Tensor) -> Tensor:
        """Loss of K query frames of conversations.

        Args:
            words: (K, D) states that predict ``[SEG]``.
            visual: (K, V, D) states of the visual tokens of that query frame.
            attention: (K, heads, V) logarithms of the attention of that state on these tokens.
            cells: (K, V) how much of the cell of each token the target covers.

        Returns:
            Scalar, weighted; rows whose target has no token are left out, and the loss is 0 where
            none has one.
        """
        target = cells > self.coverage
        seen = target.any(1)
        share = target / target.sum(1, keepdim=True).clamp(min=1)
        products = torch.einsum(
            'kvd,kd->kv', self.visual(visual), self.word(words)) / words.shape[-1]**0.5
        content = -(share * products.log_softmax(-1)).sum(1)
        on_target = attention.masked_fill(~target[:, None], float('-inf'))
        # A row without a target is left out below; it must not become infinite before.
        on_target = torch.where(seen[:, None, None], on_target, attention)
        looked = -on_target.logsumexp(-1).mean(1)
        loss = self.content_weight * content + looked
        return self.loss_weight * (loss * seen).sum() / seen.sum().clamp(min=1)
