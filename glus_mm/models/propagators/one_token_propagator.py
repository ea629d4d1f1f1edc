"""The seg token of the key frame prompts SAM-2 on every frame."""

from collections.abc import Sequence
from contextlib import closing

import torch

from glus_mm.models.inference import VideoSession
from glus_mm.models.inference.together import Steps
from glus_mm.models.propagators.glus_propagator import GLUSPropagator
from glus_mm.models.segmentors import GLUS
from glus_mm.registry import MODELS


@MODELS.register_module()
class OneTokenPropagator(GLUSPropagator):
    """One token for a video, as VideoLISA has it (paper, Table 1).

    The MLLM runs once for each expression, on the context frames and the key frame. Its token
    prompts SAM-2 on every frame, forward and backward from the key frame, with memory as
    ``test_cfg`` says. Meant for a model that was trained with ``train_cfg.one_token_seg_all``.
    Where no ``[SEG]`` came, all masks are empty and all scores 0. ``seg_tokens``, ``is_seg`` and
    ``presence`` of all frames are the key frame's.
    """

    @torch.no_grad()
    def steps(self, model: GLUS, session: VideoSession, key_frames: Sequence[int]) -> Steps:
        """See :meth:`BasePropagator.steps`."""
        num_frames = len(session.reader)
        for key in sorted(set(key_frames)):
            exps = [e for e, k in enumerate(key_frames) if k == key]
            with closing(model.propagate(session, exps, key)) as steps:
                _, first = next(steps)
            tokens = zip(first.seg_tokens, first.is_seg, first.presence)
            given = {e: [token] * num_frames for e, token in zip(exps, tokens)}
            starts = dict.fromkeys(exps, key)
            yield from self.single_pass(model, session, starts, range(key, num_frames), given)
            if key:
                yield from self.single_pass(
                    model, session, starts, range(key, -1, -1), given, skip_starts=True)
