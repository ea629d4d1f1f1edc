"""What all mask heads share: seg tokens prompt a decoder, a memory bank carries the past."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from glus_mm.models.heads.memory_bank import MemoryBank
from glus_mm.registry import MODELS, build_child
from glus_mm.utils.modules import is_trained, set_trainable
from glus_mm.utils.precision import at_least_float32, dtype_of


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

    @classmethod
    def join(cls, parts: Sequence['SAM2Features']) -> 'SAM2Features':
        """Features of the frames of several, of the same model."""
        return cls(tuple(map(torch.cat, zip(*(part.high_res for part in parts)))),
                   torch.cat([part.top for part in parts]), parts[0].top_pos)


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


class MemoryHead(BaseModule):
    """Decode masks from seg tokens with a SAM-2 or one of its successors, and their memory.

    As in the official GLUS the seg token is the only sparse prompt, ``no_mask_embed`` the dense
    one, and the memory encoder gets the memory-conditioned features (stock SAM-2: the
    unconditioned ones). Which memories a frame sees is the :class:`MemoryBank`'s matter, the same
    for all heads; what an entry is, a head says. A new head builds its parts, and overrides what
    it does otherwise.

    The parts may have different floating types (``model.dtype``): each gets its input in its own.

    Args:
        parts: with the interface of ``sam2.SAM2Base``: that itself, or a :class:`TrackerParts`.
        image_size: side S of the input.
        stride: of the features with the lowest resolution and of the memories.
        detach_memory: no gradient through memory attention, memory encoder and stored memories.
        checkpoint_memory: recompute the activations of memory attention and memory encoder in
            the backward pass instead of keeping them: the same gradients in less memory.
        memory_bank: config of the memory that a track gets, :class:`MemoryBank` by default; its
            stride is the one of ``train_cfg`` and ``test_cfg``.
        trainable: patterns of the parameters to train, None for all, an empty list for none.
        init_cfg: as in MMEngine.

    Attributes:
        token_dim (int): width C of a seg token.
        mask_side (int): side h of the masks that the decoder makes.
    """

    def __init__(self,
                 parts: nn.Module,
                 image_size: int,
                 stride: int,
                 detach_memory: bool = False,
                 checkpoint_memory: bool = False,
                 memory_bank: dict | None = None,
                 trainable: Sequence[str] | None = None,
                 init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        self.sam2 = parts
        self.image_size = image_size
        self.stride = stride
        self.token_dim, self.mask_side = parts.hidden_dim, 4 * image_size // stride
        self.detach_memory = detach_memory
        self.checkpoint_memory = checkpoint_memory
        memory_bank = dict(dict(type='MemoryBank'), **(memory_bank or {}))
        # Built once to find the class and to check the config; every track gets one of its own.
        self._bank_class = type(build_child(MODELS, memory_bank))
        self._bank_args = {k: v for k, v in memory_bank.items() if k not in ('type', '_scope_')}
        set_trainable(self, trainable)

    def new_memory(self, stride: int = 1) -> MemoryBank:
        """An empty memory for one track; ``stride`` as for :class:`MemoryBank`."""
        return self._bank_class(stride=stride, **self._bank_args)

    @property
    def precision_parts(self) -> list[nn.Module]:
        """Modules that compute in one floating type each and get their input in it."""
        sam = self.sam2
        return [sam.image_encoder, sam.memory_attention, sam.memory_encoder,
                sam.sam_prompt_encoder, sam.sam_mask_decoder]

    def compile_parts(self) -> None:
        """Run encoders, decoder and memory attention through ``torch.compile``."""
        for part in (self.sam2.image_encoder, self.sam2.memory_attention,
                     self.sam2.sam_mask_decoder, self.sam2.memory_encoder):
            part.compile()

    def extract_feat(self, imgs: Tensor) -> SAM2Features:
        """Run the image encoder, without gradients where it is frozen.

        Args:
            imgs: (M, 3, S, S), normalised.

        Raises:
            ValueError: the images have another size.
        """
        if imgs.shape[1:] != (3, self.image_size, self.image_size):
            raise ValueError(f'expected SAM-2 images (M, 3, {self.image_size}, {self.image_size}) '
                             f'as model.mask_head.image_size says, got {tuple(imgs.shape)}')
        encoder, decoder = self.sam2.image_encoder, self.sam2.sam_mask_decoder
        with nullcontext() if is_trained(encoder) else torch.no_grad():
            out = encoder(imgs.to(dtype_of(encoder)))
        # SAM-2's neck computes a part in float32, whatever the type of its weights is.
        s0, s1 = (f.to(dtype_of(decoder)) for f in out['backbone_fpn'][-3:-1])
        attention = dtype_of(self.sam2.memory_attention)
        return SAM2Features(
            (decoder.conv_s0(s0), decoder.conv_s1(s1)), out['backbone_fpn'][-1].to(attention),
            out['vision_pos_enc'][-1][:1].to(attention))

    def forward(self, feats: SAM2Features, seg_tokens: Tensor, memory: Sequence[MemoryBank],
                frame_idx: int | Sequence[int],
                points: tuple[Tensor, Tensor] | None = None) -> HeadOutput:
        """Decode one frame of ``N`` tracks; training and testing call this alike.

        Args:
            feats: features of the frame of each track, M = N, or of the one frame of all, M = 1.
            seg_tokens: (N, C).
            memory: the N banks.
            frame_idx: position in the pass, or (N) those of the tracks; the first frame of a pass
                is 0.
            points: clicks beside the seg token, as SAM-2 takes them: positions (N, K, 2) as (x, y)
                in pixels of the input, 0..S, and labels (N, K), 1 on the object, 0 off it, 2 and 3
                the upper left and lower right corner of a box, -1 for no click. A track without
                any click is decoded from its seg token alone.
        """
        conditioned = self._condition(feats, memory, frame_idx)
        sparse = seg_tokens[:, None]
        clicked = () if points is None else (points[1] >= 0).any(1).nonzero()[:, 0]
        if not len(clicked):
            return HeadOutput(*self._decode(feats.high_res, conditioned, sparse), conditioned)
        coords, labels = (values[clicked] for values in points)
        tokens = torch.cat([sparse[clicked], self.point_tokens(coords, labels).to(sparse)], 1)
        parts = [(clicked, tokens)]
        if len(clicked) < len(sparse):
            others = (points[1] < 0).all(1).nonzero()[:, 0]
            parts.append((others, sparse[others]))
        high_res = [f.expand(len(sparse), -1, -1, -1) for f in feats.high_res]
        outputs = [self._decode([f[rows] for f in high_res], conditioned[rows], prompt)
                   for rows, prompt in parts]
        order = torch.cat([rows for rows, _ in parts]).argsort()
        return HeadOutput(*(torch.cat(values)[order] for values in zip(*outputs)), conditioned)

    def point_tokens(self, coords: Tensor, labels: Tensor) -> Tensor:
        """Clicks as the mask decoder reads them.

        Unlike ``SAM2Base`` no "not a point" is appended to them.

        Args:
            coords: (N, K, 2), see :meth:`forward`.
            labels: (N, K).

        Returns:
            (N, K, C).
        """
        encoder = self.sam2.sam_prompt_encoder
        # In float32 for the reason that _dense_pe gives.
        buffers = {f'pe_layer.{name}': value.float()
                   for name, value in encoder.pe_layer.named_buffers()}
        tokens, _ = functional_call(
            encoder, buffers, (), dict(points=(coords.float(), labels), boxes=None, masks=None))
        return tokens[:, :-1]

    def _decode(self, high_res: Sequence[Tensor], conditioned: Tensor, sparse: Tensor
                ) -> tuple[Tensor, Tensor]:
        """Mask logits (n, h, w) and their scores (n) from sparse prompts (n, K, C)."""
        sam = self.sam2
        num, _, height, width = conditioned.shape
        dense = sam.sam_prompt_encoder.no_mask_embed.weight.view(1, -1, 1, 1)
        dtype = dtype_of(sam.sam_mask_decoder)
        logits, scores, _, _ = sam.sam_mask_decoder(
            image_embeddings=conditioned.to(dtype),
            image_pe=self._dense_pe().to(dtype),
            sparse_prompt_embeddings=sparse.to(dtype),
            dense_prompt_embeddings=dense.to(dtype).expand(num, -1, height, width),
            multimask_output=False,
            repeat_image=False,
            high_res_features=[f.to(dtype) for f in high_res])
        return logits[:, 0], scores[:, 0]

    def encode_memory(self, pred: HeadOutput) -> Tensor:
        """Make the memories of a decoded frame.

        Returns:
            (N, tokens, mem_dim), one entry of :class:`MemoryBank` per track.
        """
        return self._run_memory(self._encode, pred.conditioned, pred.low_res_logits)

    def _encode(self, conditioned: Tensor, low_res_logits: Tensor) -> Tensor:
        """Memory encoder; see :meth:`encode_memory`."""
        sam = self.sam2
        dtype = dtype_of(sam.memory_encoder)
        mask = F.interpolate(
            at_least_float32(low_res_logits[:, None]),
            (4 * self.mask_side, 4 * self.mask_side), mode='bilinear', align_corners=False)
        mask = mask.sigmoid() * sam.sigmoid_scale_for_mem_enc + sam.sigmoid_bias_for_mem_enc
        return self._encode_mask(conditioned.to(dtype), mask.to(dtype))

    def _encode_mask(self, conditioned: Tensor, mask: Tensor) -> Tensor:
        """Entries (n, tokens, mem_dim) from features and a mask (n, 1, 16 h, 16 w) as scaled."""
        out = self.sam2.memory_encoder(conditioned, mask, skip_mask_sigmoid=True)
        return out['vision_features'].flatten(2).transpose(1, 2)

    def _dense_pe(self) -> Tensor:
        """Position encoding (1, C, S/16, S/16) of the decoder's image tokens, float32.

        The prompt encoder's own ``get_dense_pe`` multiplies a float32 grid with its buffer, which
        fails once the model was cast to float64 or bfloat16.
        """
        encoder = self.sam2.sam_prompt_encoder
        buffers = {name: value.float() for name, value in encoder.pe_layer.named_buffers()}
        return functional_call(encoder.pe_layer, buffers, (encoder.image_embedding_size,))[None]

    def _run_memory(self, part: Callable[..., Tensor], *args: Tensor) -> Tensor:
        """Run memory attention or memory encoder as the switches say."""
        if self.detach_memory:
            with torch.no_grad():
                return part(*args)
        if self.checkpoint_memory and torch.is_grad_enabled():
            return checkpoint(part, *args, use_reentrant=False)
        return part(*args)

    def _condition(self, feats: SAM2Features, memory: Sequence[MemoryBank],
                   frame_idx: int | Sequence[int]) -> Tensor:
        """Attend to the memories; tracks with equally many are batched. Returns (N, C, h, w)."""
        places = [frame_idx] * len(memory) if isinstance(frame_idx, int) else frame_idx
        selected = [bank.select(place) for bank, place in zip(memory, places)]
        groups = defaultdict(list)
        for track, entries in enumerate(selected):
            groups[len(entries)].append(track)
        parts, order = [], []
        for count, tracks in groups.items():
            top = feats.top[tracks] if len(groups) > 1 and len(feats.top) > 1 else feats.top
            if count == 0:
                top = top + self.sam2.no_mem_embed.view(1, -1, 1, 1)
                parts.append(top.expand(len(tracks), -1, -1, -1))
            else:
                stored = torch.stack([torch.cat(selected[track]) for track in tracks], dim=1)
                top = top.expand(len(tracks), -1, -1, -1)
                parts.append(self._run_memory(self._attend, top, feats.top_pos, stored))
            order += tracks
        if len(parts) == 1:
            return parts[0]
        return torch.cat(parts)[torch.tensor(order, device=feats.top.device).argsort()]

    def _memory_pos(self, stored: Tensor) -> Tensor:
        """Position encoding (tokens, mem_dim) of one memory, of the type of ``stored``."""
        side = self.image_size // self.stride
        pos = self.sam2.memory_encoder.position_encoding(
            stored.new_empty(1, stored.shape[-1], side, side))
        return pos.to(stored.dtype)[0].flatten(1).T

    def _attention_options(self, count: int) -> dict[str, int]:
        """What the memory attention is told besides of ``count`` memories."""
        return {}

    def _attend(self, top: Tensor, top_pos: Tensor, stored: Tensor) -> Tensor:
        """Memory attention of (n, C, h, w) over memories, stored (tokens, n, mem)."""
        num, channels, height, width = top.shape
        stored = stored.to(dtype_of(self.sam2.memory_attention))
        pos = self._memory_pos(stored)[:, None]
        count = len(stored) // len(pos)
        out = self.sam2.memory_attention(
            curr=[top.flatten(2).permute(2, 0, 1)],
            curr_pos=[top_pos.flatten(2).permute(2, 0, 1).expand(-1, num, -1)],
            memory=stored,
            memory_pos=pos.repeat(count, num, 1),
            num_obj_ptr_tokens=0,
            **self._attention_options(count))
        return out.permute(1, 2, 0).reshape(num, channels, height, width)
