"""The seg token of the key frame prompts SAM-2 on every frame."""

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from typing import Any

import torch
from torch import Tensor

from glus_mm.models.heads import HeadOutput
from glus_mm.models.inference import MaskPrediction, VideoSession
from glus_mm.models.inference.together import Steps, Work, alone
from glus_mm.models.mllms.base_mllm import SegTokens
from glus_mm.models.propagators.base_propagator import BasePropagator
from glus_mm.models.propagators.frame_encoder import FrameEncoder
from glus_mm.models.segmentors import GLUS
from glus_mm.registry import MODELS


@MODELS.register_module()
class OneTokenPropagator(BasePropagator):
    """One token for a video, as VideoLISA has it (paper, Table 1).

    The MLLM runs once for each expression, on the context frames and the key frame. Its token
    prompts SAM-2 on every frame, forward and backward from the key frame, with memory as
    ``test_cfg`` says. Meant for a model that was trained with ``train_cfg.one_token_seg_all``.
    Where no ``[SEG]`` came, all masks are empty and all scores 0.
    """

    def segment(self, model: GLUS, session: VideoSession, key_frames: Sequence[int]
                ) -> Iterator[tuple[int, list[int], MaskPrediction]]:
        """See :meth:`BasePropagator.segment`.

        ``seg_tokens``, ``is_seg`` and ``presence`` are the key frame's.
        """
        return alone(self.steps(model, session, key_frames))

    @torch.no_grad()
    def steps(self, model: GLUS, session: VideoSession, key_frames: Sequence[int]) -> Steps:
        """See :meth:`BasePropagator.steps`."""
        for key in sorted(set(key_frames)):
            exps = [e for e, k in enumerate(key_frames) if k == key]
            with closing(model.propagate(session, exps, key)) as steps:
                _, first = next(steps)
            seg = SegTokens(first.seg_tokens, first.is_seg, first.presence)
            for frames in (range(key, len(session.reader)), range(key, -1, -1)):
                memory = [model.mask_head.new_memory(model.test_cfg.memory_stride) for _ in exps]
                with closing(FrameEncoder(model, session, frames, vision=False)) as features:
                    for step, t in enumerate(frames):

                        def decode(rows: Tensor, t=t, step=step, memory=memory, seg=seg,
                                   features=features) -> Generator[Work, Any, HeadOutput]:
                            return features.decode(t, seg.tokens[rows], [
                                memory[i] for i in rows.tolist()], [step] * len(rows))

                        pred = yield from model.predict_masks(
                            seg, seg.is_seg, session.reader.shape, decode)
                        if t != key or frames.step > 0:
                            yield t, exps, pred
