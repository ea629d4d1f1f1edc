"""GLUS itself: the MLLM prompts SAM-2 on every frame, forward and backward from the key frame."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from glus_mm.models.heads import MemoryBank, SAM2Features
from glus_mm.models.inference import MaskPrediction, VideoSession
from glus_mm.models.mllms.base_mllm import SegTokens
from glus_mm.models.propagators.base_propagator import BasePropagator
from glus_mm.registry import MODELS
from glus_mm.utils.image import sam2_image, vision_tower_image

if TYPE_CHECKING:
    from glus_mm.models.segmentors.glus import GLUS


@MODELS.register_module()
class GLUSPropagator(BasePropagator):
    """A seg token for every frame, with memory of the frames before (paper, sections 4.1, 4.2).

    From its key frame an expression is propagated forward to the end and backward to the start,
    each with an empty memory bank and a new conversation, as the official code does.
    """

    def segment(self, model: 'GLUS', session: VideoSession, key_frames: Sequence[int]
                ) -> Iterator[tuple[int, list[int], MaskPrediction]]:
        """See :meth:`BasePropagator.segment`."""
        num_exp = len(key_frames)
        if model.test_cfg.reuse == 'exact':
            groups = [[e for e in range(num_exp) if key_frames[e] == k]
                      for k in sorted(set(key_frames))]
        else:
            groups = [[e] for e in range(num_exp)]
        for exps in groups:
            key = key_frames[exps[0]]
            for t, pred in model.propagate(session, exps, key):
                yield t, exps, pred
            if key == 0:
                continue
            for t, pred in model.propagate(session, exps, key, reverse=True):
                if t != key:
                    yield t, exps, pred

    @torch.no_grad()
    def propagate(self, model: 'GLUS', session: VideoSession, exp_indices: Sequence[int],
                  start: int = 0, reverse: bool = False
                  ) -> Iterator[tuple[int, MaskPrediction]]:
        """See :meth:`GLUS.propagate`."""
        cfg = model.test_cfg
        frames = range(start, -1, -1) if reverse else range(start, len(session.reader))
        memory = [MemoryBank(cfg.memory_stride) for _ in exp_indices]
        prompts = [[model.mllm.prompt(session.expressions[e], cfg.num_context, turns)
                    for e in exp_indices] for turns in range(1, min(cfg.window, len(frames)) + 1)]
        for step, t in enumerate(frames):
            window = frames[max(0, step + 1 - cfg.window):step + 1]
            preds = []
            for i in range(0, len(exp_indices), cfg.max_expressions):
                chunk = slice(i, i + cfg.max_expressions)
                seg = self._next_seg_tokens(model, session, prompts[len(window) - 1][chunk], window)
                preds.append(self._predict_frame(model, session, t, seg, memory[chunk], step))
            yield t, _join(preds)

    def _next_seg_tokens(self, model: 'GLUS', session: VideoSession, prompts: list[list[int]],
                         window: Sequence[int]) -> SegTokens:
        """Seg tokens of a window's last frame; the prefix is shared where ``reuse`` says so."""
        visual = torch.stack([self._visual_tokens(model, session, t) for t in window])
        context = session.context_frame_ids
        if model.test_cfg.reuse == 'none':
            if context:
                visual = torch.cat([self._context_tokens(model, session), visual])
            return model.mllm.next_seg_tokens(prompts, visual)
        cut = model.mllm.split_prefix(prompts[0], len(context))

        def prefill():
            tokens = self._context_tokens(model, session) if context else visual[:0]
            return model.mllm.prefill(prompts[0][:cut], tokens)

        prefix = session.prefix.get('prefix', prefill)
        return model.mllm.next_seg_tokens([p[cut:] for p in prompts], visual, prefix)

    def _context_tokens(self, model: 'GLUS', session: VideoSession) -> Tensor:
        return torch.stack([self._encode_vision(model, session, t)
                            for t in session.context_frame_ids])

    def _visual_tokens(self, model: 'GLUS', session: VideoSession, frame_idx: int) -> Tensor:
        return session.visual_tokens.get(frame_idx,
                                         lambda: self._encode_vision(model, session, frame_idx))

    def _encode_vision(self, model: 'GLUS', session: VideoSession, frame_idx: int) -> Tensor:
        """Visual tokens (V, D) of one frame."""
        image = vision_tower_image(
            session.frame(frame_idx), model.mllm.image_size, model.mllm.vision_crop)
        image = torch.from_numpy(image.copy()).permute(2, 0, 1)
        return model.mllm.encode_images(model.data_preprocessor.normalize_vision(image)[None])[0]

    def _sam_features(self, model: 'GLUS', session: VideoSession, frame_idx: int) -> SAM2Features:

        def encode():
            image = sam2_image(session.frame(frame_idx), model.mask_head.image_size)
            return model.mask_head.extract_feat(model.data_preprocessor.normalize_sam(image)[None])

        return session.sam_features.get(frame_idx, encode)

    def _predict_frame(self, model: 'GLUS', session: VideoSession, frame_idx: int, seg: SegTokens,
                       memory: Sequence[MemoryBank], step: int) -> MaskPrediction:
        """Decode the tracks that have a ``[SEG]``; the others get an empty mask, no memory."""
        num = len(seg.tokens)
        height, width = session.frame(frame_idx).shape[:2]
        tracks = seg.is_seg.nonzero()[:, 0].tolist()
        side = model.mask_head.image_size // 4
        dtype = torch.promote_types(seg.tokens.dtype, torch.float32)
        logits = seg.tokens.new_full((num, side, side), float('-inf'), dtype=dtype)
        masks = torch.zeros(num, height, width, dtype=torch.bool, device=logits.device)
        scores = seg.tokens.new_zeros(num, dtype=dtype)
        if tracks:
            feats = self._sam_features(model, session, frame_idx)
            index = torch.zeros(len(tracks), dtype=torch.long, device=logits.device)
            pred = model.decode(
                feats.select(index), seg.tokens[tracks], [memory[i] for i in tracks], step,
                store=model.test_cfg.use_memory)
            logits[tracks] = pred.low_res_logits.to(dtype)
            scores[tracks] = pred.scores.to(dtype)
            masks[tracks] = F.interpolate(
                logits[tracks][:, None], (height, width), mode='bilinear',
                align_corners=False)[:, 0] > 0
        return MaskPrediction(masks, logits, seg.tokens, seg.is_seg, scores)


def _join(preds: list[MaskPrediction]) -> MaskPrediction:
    """Put the chunks of a frame's expressions together."""
    if len(preds) == 1:
        return preds[0]
    return MaskPrediction(**{
        name: torch.cat([getattr(pred, name) for pred in preds])
        for name in MaskPrediction.__dataclass_fields__
    })
