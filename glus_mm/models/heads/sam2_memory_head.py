"""SAM-2 as the mask head of GLUS."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.func import functional_call

from glus_mm.models.heads.memory_head import MemoryHead
from glus_mm.models.heads.sam2_arch import STRIDE, build_sam2, initial_layer_scale
from glus_mm.registry import MODELS


@MODELS.register_module()
class SAM2MemoryHead(MemoryHead):
    """Decode masks from seg tokens with SAM-2 and its memory.

    The code is that of the package ``sam2`` or of transformers, neither of them changed; weights,
    their names and results are the same. As in the official GLUS the seg token is the
    only sparse prompt, ``no_mask_embed`` the dense one, and the memory encoder gets the
    memory-conditioned features (stock SAM-2: the unconditioned ones). Unlike the official code,
    gradients flow through stored memories and memory attention, as section 4.2 of the paper
    says; ``detach_memory=True`` gives the official behaviour.

    The parts of SAM-2 may have different floating types (``model.dtype``): each gets its input in
    its own.

    Args:
        sam2: name, YAML file or sizes, see :func:`build_sam2`.
        image_size: side S of the input.
        dynamic_multimask: see :func:`build_sam2`.
        detach_memory: no gradient through memory attention, memory encoder and stored memories.
        checkpoint_memory: recompute the activations of memory attention and memory encoder in
            the backward pass instead of keeping them: the same gradients in less memory.
        official_gamma: the layer scale ``gamma`` of the memory encoder's fuser counts as its
            initial value (1e-6 in all of SAM-2's own configs), whatever the weights hold. The
            official inference script loses ``gamma`` while it loads a checkpoint and runs like
            that; its training, and its notebook, do not. Weights and ``state_dict`` stay as they
            are. Meant for comparing with the script: a training with it leaves ``gamma`` alone.
        memory_bank: config of the memory that a track gets, :class:`MemoryBank` by default; its
            stride is the one of ``train_cfg`` and ``test_cfg``.
        trainable: patterns of the parameters to train, None for all, an empty list for none.
        backend: the package whose code runs SAM-2, ``'sam2'``, ``'transformers'`` or ``'auto'``:
            ``sam2`` where it is installed. The log says which.
        init_cfg: as in MMEngine.
    """

    def __init__(self,
                 sam2: str | dict,
                 image_size: int,
                 dynamic_multimask: bool = True,
                 detach_memory: bool = False,
                 checkpoint_memory: bool = False,
                 official_gamma: bool = False,
                 memory_bank: dict | None = None,
                 trainable: Sequence[str] | None = None,
                 backend: str = 'auto',
                 init_cfg: dict | None = None) -> None:
        super().__init__(
            build_sam2(sam2, image_size, dynamic_multimask, backend), image_size, STRIDE,
            detach_memory, checkpoint_memory, memory_bank, trainable, init_cfg)
        self.official_gamma = official_gamma
        self._initial_gamma = initial_layer_scale(sam2)

    def _encode_mask(self, conditioned: Tensor, mask: Tensor) -> Tensor:
        """See :meth:`MemoryHead._encode_mask`."""
        if not self.official_gamma:
            return super()._encode_mask(conditioned, mask)
        gammas = {name: torch.full_like(value, self._initial_gamma)
                  for name, value in self.sam2.memory_encoder.named_parameters()
                  if name.endswith('.gamma')}
        out = functional_call(
            self.sam2.memory_encoder, gammas, (conditioned, mask), dict(skip_mask_sigmoid=True))
        return out['vision_features'].flatten(2).transpose(1, 2)
