"""The prompt of a frame takes that of the frame before into account."""

from collections.abc import Sequence

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from glus_mm.models.heads.memory_bank import MemoryBank
from glus_mm.registry import MODELS
from glus_mm.utils.precision import dtype_of


@MODELS.register_module()
class TokenUpdate(BaseModule):
    """Add a linear map of the prompt of the frame before to each seg token.

    What the GLUS paper says of TrackGPT (section 2: "iteratively updating the special token as the
    video progresses"), on GLUS's model: ``prompt_t = token_t + W prompt_(t-1)``, with ``W`` zero at
    first, so that a trained model begins as it was. It is not TrackGPT's own module. The prompt
    lives in the track's memory bank: each pass begins without one, and a frame without ``[SEG]``
    leaves it as it was. Gradients flow through all frames of a training sample.

    Args:
        token_dim: width C of a seg token; GLUS fills it in.
        init_cfg: as in MMEngine.
    """

    def __init__(self, token_dim: int, init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        self.carry = nn.Linear(token_dim, token_dim, bias=False)
        nn.init.zeros_(self.carry.weight)

    def forward(self, seg_tokens: Tensor, memory: Sequence[MemoryBank]) -> Tensor:
        """Prompts of the next frame.

        Args:
            seg_tokens: (N, C).
            memory: the banks of the N tracks; their ``prompt`` is replaced.

        Returns:
            (N, C).
        """
        tokens = seg_tokens.to(dtype_of(self.carry))
        zero = torch.zeros_like(tokens[0])
        before = torch.stack([zero if bank.prompt is None else bank.prompt for bank in memory])
        prompts = tokens + self.carry(before)
        for bank, prompt in zip(memory, prompts):
            bank.prompt = prompt
        return prompts
