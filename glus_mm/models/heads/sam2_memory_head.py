"""SAM-2 as the mask head of GLUS: seg tokens prompt it, its memory bank carries the past."""

from collections import defaultdict
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from mmengine.model import BaseModule
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional as F

from glus_mm.models.heads.memory_bank import MemoryBank
from glus_mm.models.heads.sam2_arch import build_sam2
from glus_mm.registry import MODELS
from glus_mm.utils.modules import is_trained, set_trainable


@dataclass(frozen=True)
class SAM2Features:
    """What the image encoder makes of ``M`` frames.

    Attributes:
        high_res: ``(M, C/8, S/4, S/4)`` and ``(M, C/4, S/8, S/8)``.
        top: (M, C, S/16, S/16).
        top_pos: (1, C, S/16, S/16) position encoding.
    """

    high_res: tuple[Tensor, Tensor]
    top: Tensor
    top_pos: Tensor

    def select(self, index: Tensor) -> 'SAM2Features':
        """Features of the frames at ``index`` (N), repeats allowed."""
        return SAM2Features(tuple(f[index] for f in self.high_res), self.top[index], self.top_pos)


@dataclass(frozen=True)
class HeadOutput:
    """Masks of ``N`` tracks on one frame.

    Attributes:
        low_res_logits: (N, h, w).
        scores: (N) the IoU that the decoder expects, 0..1.
        conditioned: (N, C, S/16, S/16) memory-conditioned features.
    """

    low_res_logits: Tensor
    scores: Tensor
    conditioned: Tensor


@MODELS.register_module()
class SAM2MemoryHead(BaseModule):
    """Decode masks from seg tokens with SAM-2 and its memory.

    The stock ``sam2`` package serves unmodified. As in the official GLUS the seg token is the
    only sparse prompt, ``no_mask_embed`` the dense one, and the memory encoder gets the
    memory-conditioned features (stock SAM-2: the unconditioned ones). Unlike the official code,
    gradients flow through stored memories and memory attention, as section 4.2 of the paper
    says; ``detach_memory=True`` gives the official behaviour.

    Args:
        sam2: name, YAML file or sizes, see :func:`build_sam2`.
        image_size: side S of the input.
        dynamic_multimask: see :func:`build_sam2`.
        detach_memory: no gradient through memory attention, memory encoder and stored memories.
        trainable: patterns of the parameters to train, None for all.
        init_cfg: as in MMEngine.
    """

    def __init__(self,
                 sam2: str | dict,
                 image_size: int,
                 dynamic_multimask: bool = True,
                 detach_memory: bool = False,
                 trainable: Sequence[str] | None = None,
                 init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        self.sam2 = build_sam2(sam2, image_size, dynamic_multimask)
        self.image_size = image_size
        self.detach_memory = detach_memory
        set_trainable(self, trainable)

    @property
    def token_dim(self) -> int:
        """Width C of a seg token."""
        return self.sam2.hidden_dim

    def extract_feat(self, imgs: Tensor) -> SAM2Features:
        """Run the image encoder, without gradients where it is frozen.

        Args:
            imgs: (M, 3, S, S), normalised.

        Returns:
            The features of the M frames.

        Raises:
            ValueError: the images have another size.
        """
        if imgs.shape[1:] != (3, self.image_size, self.image_size):
            raise ValueError(f'expected SAM-2 images (M, 3, {self.image_size}, {self.image_size}) '
                             f'as model.mask_head.image_size says, got {tuple(imgs.shape)}')
        decoder = self.sam2.sam_mask_decoder
        with nullcontext() if is_trained(self.sam2.image_encoder) else torch.no_grad():
            out = self.sam2.image_encoder(imgs)
        # SAM-2's neck computes in float32 and leaves bfloat16 images' features so.
        s0, s1, top = (f.to(imgs.dtype) for f in out['backbone_fpn'][-3:])
        return SAM2Features((decoder.conv_s0(s0), decoder.conv_s1(s1)), top,
                            out['vision_pos_enc'][-1][:1].to(imgs.dtype))

    def forward(self, feats: SAM2Features, seg_tokens: Tensor, memory: Sequence[MemoryBank],
                frame_idx: int) -> HeadOutput:
        """Decode one frame of ``N`` tracks; training and testing call this alike.

        Args:
            feats: features of the frame of each track, M = N.
            seg_tokens: (N, C).
            memory: the N banks.
            frame_idx: position in the pass; the first frame of a pass is 0.

        Returns:
            The masks.
        """
        conditioned = self._condition(feats, memory, frame_idx)
        sam = self.sam2
        num, _, height, width = conditioned.shape
        dense = sam.sam_prompt_encoder.no_mask_embed.weight.view(1, -1, 1, 1)
        logits, scores, _, _ = sam.sam_mask_decoder(
            image_embeddings=conditioned,
            image_pe=self._dense_pe().to(conditioned.dtype),
            sparse_prompt_embeddings=seg_tokens[:, None],
            dense_prompt_embeddings=dense.expand(num, -1, height, width),
            multimask_output=False,
            repeat_image=False,
            high_res_features=list(feats.high_res))
        return HeadOutput(logits[:, 0], scores[:, 0], conditioned)

    def encode_memory(self, pred: HeadOutput) -> Tensor:
        """Make the memories of a decoded frame.

        Args:
            pred: what :meth:`forward` returned.

        Returns:
            (N, tokens, mem_dim), one entry of :class:`MemoryBank` per track.
        """
        sam = self.sam2
        with self._memory_grad():
            mask = F.interpolate(
                pred.low_res_logits[:, None], (self.image_size, self.image_size),
                mode='bilinear', align_corners=False)
            mask = mask.sigmoid() * sam.sigmoid_scale_for_mem_enc + sam.sigmoid_bias_for_mem_enc
            out = sam.memory_encoder(pred.conditioned, mask, skip_mask_sigmoid=True)
            return out['vision_features'].flatten(2).transpose(1, 2)

    def _dense_pe(self) -> Tensor:
        """Position encoding (1, C, S/16, S/16) of the decoder's image tokens, float32.

        The prompt encoder's own ``get_dense_pe`` multiplies a float32 grid with its buffer, which
        fails once the model was cast to float64 or bfloat16.
        """
        encoder = self.sam2.sam_prompt_encoder
        buffers = {name: value.float() for name, value in encoder.pe_layer.named_buffers()}
        return functional_call(encoder.pe_layer, buffers, (encoder.image_embedding_size,))[None]

    def _memory_grad(self):
        return torch.no_grad() if self.detach_memory else nullcontext()

    def _condition(self, feats: SAM2Features, memory: Sequence[MemoryBank],
                   frame_idx: int) -> Tensor:
        """Attend to the memories; tracks with equally many are batched. Returns (N, C, h, w)."""
        selected = [bank.select(frame_idx) for bank in memory]
        groups = defaultdict(list)
        for track, entries in enumerate(selected):
            groups[len(entries)].append(track)
        parts, order = [], []
        for count, tracks in groups.items():
            top = feats.top[tracks] if len(groups) > 1 else feats.top
            if count == 0:
                parts.append(top + self.sam2.no_mem_embed.view(1, -1, 1, 1))
            else:
                stored = torch.stack([torch.cat(selected[track]) for track in tracks], dim=1)
                parts.append(self._attend(top, feats.top_pos, stored, count))
            order += tracks
        if len(parts) == 1:
            return parts[0]
        return torch.cat(parts)[torch.tensor(order, device=feats.top.device).argsort()]

    def _attend(self, top: Tensor, top_pos: Tensor, stored: Tensor, count: int) -> Tensor:
        """Memory attention of (n, C, h, w) over ``count`` memories, stored (tokens, n, mem)."""
        num, channels, height, width = top.shape
        pos = self.sam2.memory_encoder.position_encoding(
            stored.new_empty(1, stored.shape[-1], height, width)).to(stored.dtype)
        pos = pos.flatten(2).permute(2, 0, 1).repeat(count, num, 1)
        with self._memory_grad():
            out = self.sam2.memory_attention(
                curr=[top.flatten(2).permute(2, 0, 1)],
                curr_pos=[top_pos.flatten(2).permute(2, 0, 1).expand(-1, num, -1)],
                memory=stored,
                memory_pos=pos,
                num_obj_ptr_tokens=0)
        return out.permute(1, 2, 0).reshape(num, channels, height, width)
