"""SAM-2's successors from transformers as the mask head of GLUS."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from glus_mm.models.heads.memory_head import MemoryHead
from glus_mm.models.heads.transformers_parts import load_tracker
from glus_mm.registry import MODELS


@MODELS.register_module()
class EdgeTAMHead(MemoryHead):
    """EdgeTAM, from transformers: SAM-2 for small devices.

    RepViT sees the frames (``timm``, the extra ``edgetam``), and a perceiver makes 512 tokens of
    the 4096 memories of a frame: 256 that look at all of it, and 256 in a grid that each look at
    a window. The former have no position. Which frames are remembered is GLUS's matter, see
    :class:`MemoryBank`. Batch norms keep their statistics in training. Weights have the names of
    :class:`SAM2MemoryHead`, but for the image encoder and ``sam2.spatial_perceiver``.

    Args:
        model: a folder or a repository on the hub, whose weights are loaded, or arguments of
            ``EdgeTamVideoConfig``.
        image_size: side S of the input, a multiple of 32.
        dynamic_multimask: see :func:`build_sam2`.
        detach_memory, checkpoint_memory, memory_bank, trainable: see :class:`MemoryHead`.
        init_cfg: as in MMEngine.
    """

    def __init__(self,
                 model: str | dict = 'yonigozlan/EdgeTAM-hf',
                 image_size: int = 1024,
                 dynamic_multimask: bool = True,
                 detach_memory: bool = False,
                 checkpoint_memory: bool = False,
                 memory_bank: dict | None = None,
                 trainable: Sequence[str] | None = None,
                 init_cfg: dict | None = None) -> None:
        super().__init__(
            load_tracker('EdgeTamVideo', model, image_size, 16, dynamic_multimask), image_size, 16,
            detach_memory, checkpoint_memory, memory_bank, trainable, init_cfg)

    def train(self, mode: bool = True) -> 'EdgeTAMHead':
        """Keep the statistics of batch norms, as a batch is a few frames of few videos."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, _BatchNorm):
                module.eval()
        return self

    def _encode_mask(self, conditioned: Tensor, mask: Tensor) -> Tensor:
        """See :meth:`MemoryHead._encode_mask`; the perceiver makes the tokens."""
        features = self.sam2.memory_encoder(
            conditioned, mask, skip_mask_sigmoid=True)['vision_features']
        pos = self.sam2.memory_encoder.position_encoding(features[:1]).to(features)
        # That of transformers takes one track at a time.
        return torch.cat([self.sam2.spatial_perceiver.run(one[None], pos)[0] for one in features])

    def _memory_pos(self, stored: Tensor) -> Tensor:
        """See :meth:`MemoryHead._memory_pos`; those of the grid only."""
        perceiver = self.sam2.spatial_perceiver.source
        side = round(perceiver.num_latents_2d**0.5)
        grid = perceiver.positional_encoding(
            torch.Size((1, stored.shape[-1], side, side)), stored.device, torch.float32)
        return torch.cat([stored.new_zeros(perceiver.num_latents_1d, stored.shape[-1]),
                          grid.to(stored.dtype)[0].flatten(1).T])

    def _attention_options(self, count: int) -> dict[str, int]:
        """See :meth:`MemoryHead._attention_options`: positions repeat with each memory."""
        return dict(num_spatial_memory_tokens=count)


@MODELS.register_module()
class Sam3TrackerHead(MemoryHead):
    """SAM 3's tracker, from transformers: a plain ViT sees the frames, the rest is as in SAM-2.

    Images are of side 1008 and patches of 14, so that there are 72 x 72 memories of a frame and
    masks of 288 x 288. Images are normalised otherwise than those of SAM-2: give
    ``data_preprocessor`` ``sam_mean`` and ``sam_std`` of 0.5. The memories are GLUS's, see
    :class:`MemoryBank`: no object pointers, no temporal encoding. Weights have the names of
    :class:`SAM2MemoryHead`, but for the image encoder.

    Args:
        model: a folder or a repository on the hub (``'facebook/sam3'``, to which access has to be
            asked for), whose weights are loaded, or arguments of ``Sam3TrackerVideoConfig``.
        image_size: side S of the input, a multiple of the side of its patches.
        patch_size: that side.
        dynamic_multimask: see :func:`build_sam2`.
        detach_memory, checkpoint_memory, memory_bank, trainable: see :class:`MemoryHead`.
        init_cfg: as in MMEngine.
    """

    def __init__(self,
                 model: str | dict = 'facebook/sam3',
                 image_size: int = 1008,
                 patch_size: int = 14,
                 dynamic_multimask: bool = True,
                 detach_memory: bool = False,
                 checkpoint_memory: bool = False,
                 memory_bank: dict | None = None,
                 trainable: Sequence[str] | None = None,
                 init_cfg: dict | None = None) -> None:
        parts = load_tracker('Sam3TrackerVideo', model, image_size, patch_size, dynamic_multimask)
        super().__init__(parts, image_size, patch_size, detach_memory, checkpoint_memory,
                         memory_bank, trainable, init_cfg)
