"""The seg token of the key frame prompts SAM-2 on every frame."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

from glus_mm.models.heads import MemoryBank
from glus_mm.models.inference import MaskPrediction, VideoSession
from glus_mm.models.propagators.base_propagator import BasePropagator
from glus_mm.models.propagators.frame_features import frame_features
from glus_mm.registry import MODELS

if TYPE_CHECKING:
    from glus_mm.models.segmentors.glus import GLUS


@MODELS.register_module()
class OneTokenPropagator(BasePropagator):
    """One token for a video, as VideoLISA has it (paper, Table 1).

    The MLLM runs once for each expression, on the context frames and the key frame. Its token
    prompts SAM-2 on every frame, forward and backward from the key frame, with memory as
    ``test_cfg`` says. Meant for a model that was trained with ``train_cfg.seg_per='video'``. Where
    no ``[SEG]`` came, all masks are empty and all scores 0.
    """

    def segment(self, model: 'GLUS', session: VideoSession, key_frames: Sequence[int]
                ) -> Iterator[tuple[int, list[int], MaskPrediction]]:
        """See :meth:`BasePropagator.segment`.

        ``seg_tokens``, ``is_seg`` and ``presence`` are the key frame's.
        """
        for key in sorted(set(key_frames)):
            exps = [e for e, k in enumerate(key_frames) if k == key]
            with closing(model.propagate(session, exps, key)) as steps:
                _, first = next(steps)
            for frames in (range(key, len(session.reader)), range(key, -1, -1)):
                memory = [model.mask_head.new_memory(model.test_cfg.memory_stride) for _ in exps]
                for step, t in enumerate(frames):
                    pred = self._decode(model, session, t, first, memory, step)
                    if t != key or frames.step > 0:
                        yield t, exps, pred

    @torch.no_grad()
    def _decode(self, model: 'GLUS', session: VideoSession, frame_idx: int,
                first: MaskPrediction, memory: Sequence[MemoryBank], step: int) -> MaskPrediction:
        """Prompt with the tokens of the key frame; chunks as ``max_expressions`` says."""
        tracks = first.is_seg.nonzero()[:, 0]
        logits = torch.full_like(first.low_res_logits, float('-inf'))
        scores = torch.zeros_like(first.scores)
        masks = torch.zeros_like(first.masks)
        for rows in tracks.split(model.test_cfg.max_expressions) if len(tracks) else ():
            feats = frame_features(model, session, frame_idx).select(torch.zeros_like(rows))
            out = model.decode(feats, first.seg_tokens[rows], [memory[i] for i in rows.tolist()],
                               step, store=model.test_cfg.use_memory)
            logits[rows] = out.low_res_logits.to(logits.dtype)
            scores[rows] = out.scores.to(scores.dtype)
            masks[rows] = F.interpolate(
                logits[rows][:, None], masks.shape[1:], mode='bilinear',
                align_corners=False)[:, 0] > 0
        return replace(first, masks=masks, low_res_logits=logits, scores=scores)
