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
    own attention: from that state it has to fall on the target in the query frame, on each of its
    objects, and thereby brings its place along. Were it enough to fall on any of them, one of "both
    circles" would do.

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

    def forward(self, words: Tensor, visual: Tensor, attention: Tensor, cells: Tensor,
                owners: Tensor) -> Tensor:
        """Loss of K query frames of conversations, whose targets have N objects in all.

        Args:
            words: (K, D) states that predict ``[SEG]``.
            visual: (K, V, D) states of the visual tokens of that query frame.
            attention: (K, heads, V) logarithms of the attention of that state on these tokens.
            cells: (N, V) how much of the cell of each token an object covers.
            owners: int64 (N), which of the K an object is a target of.

        Returns:
            Scalar, weighted; rows whose target has no token are left out, and the loss is 0 where
            none has one.
        """
        objects = cells > self.coverage
        visible = objects.any(1)
        objects, owners = objects[visible], owners[visible]
        number = torch.bincount(owners, minlength=len(words))
        target = torch.zeros_like(visual[..., 0]).index_add(0, owners, objects.to(visual)) > 0
        share = target / target.sum(1, keepdim=True).clamp(min=1)
        products = torch.einsum(
            'kvd,kd->kv', self.visual(visual), self.word(words)) / words.shape[-1]**0.5
        content = -(share * products.log_softmax(-1)).sum(1)
        on_object = attention[owners].masked_fill(~objects[:, None], float('-inf'))
        missed = -on_object.logsumexp(-1).mean(1)
        looked = torch.zeros_like(content).index_add(0, owners, missed) / number.clamp(min=1)
        loss = self.content_weight * content + looked
        return self.loss_weight * loss.sum() / (number > 0).sum().clamp(min=1)
