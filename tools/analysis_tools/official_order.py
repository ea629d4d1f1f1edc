"""The official order of work, with the same results: the baseline of the benchmarks and the tests.

Everything is computed anew for each expression and, at inference, for each frame.
"""

from collections.abc import Generator, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from glus_mm.models.heads import HeadOutput, MemoryBank
from glus_mm.models.inference import BoundedCache, VideoSession
from glus_mm.models.inference.together import Steps, Work
from glus_mm.models.mllms import CausalMLLM, SegTokens
from glus_mm.models.propagators import GLUSPropagator
from glus_mm.models.propagators.frame_encoder import sam_input, vision_input
from glus_mm.models.segmentors import GLUS
from glus_mm.registry import MODELS
from glus_mm.text.prompt import IMAGE_TOKEN_INDEX
from glus_mm.utils.precision import run_in_own_type

OFFICIAL = dict(type='OfficialPropagator')
"""``model.test_cfg.propagator`` of a model that works in the official order."""


def train_officially(model: GLUS, officially: bool = True) -> GLUS:
    """Let a model train in the official order, or as it does by default.

    The vision tower runs once for each expression, each conversation runs alone, and there are
    logits at every position.

    Args:
        model: changed in place.
        officially: False makes it the default one again.
    """
    own = {model: {'_encode_clips': partial(_encode_clips, model)},
           model.mllm: {'forward': partial(_forward, model.mllm),
                        '_logits_at': partial(_logits_at, model.mllm)}}
    for owner, methods in own.items():
        for name, method in methods.items():
            if officially:
                setattr(owner, name, method)
            else:
                vars(owner).pop(name, None)
    return model


def _encode_clips(model: GLUS, clip_imgs: Sequence[Tensor], video_of: Sequence[int],
                  data_samples: Any) -> list[Tensor]:
    visual = model.mllm.encode_images(torch.cat([clip_imgs[b] for b in video_of]))
    return list(visual.split([len(clip_imgs[b]) for b in video_of]))


def _forward(mllm: CausalMLLM, *args, groups: Any, **kwargs) -> tuple[SegTokens, Tensor, Tensor]:
    return type(mllm).forward(mllm, *args, **kwargs)


def _logits_at(mllm: CausalMLLM, hidden: Tensor, chosen: Tensor) -> Tensor:
    return run_in_own_type(mllm.lm_head, hidden)[chosen]


def seg_tokens_from_scratch(mllm: CausalMLLM, input_ids: Sequence[list[int]], imgs: Tensor
                            ) -> SegTokens:
    """What the official code computes for a step, nothing of it reused or left out.

    Args:
        input_ids: N whole prompts.
        imgs: (frames, 3, P, P), normalised, that all N of them show.

    Returns:
        As :meth:`BaseMLLM.next_seg_tokens`.
    """
    visual = mllm.encode_images(imgs)
    hidden = mllm._run([torch.tensor(ids) for ids in input_ids], [visual] * len(input_ids))
    last = [len(ids) + ids.count(IMAGE_TOKEN_INDEX) * (visual.shape[1] - 1) - 1
            for ids in input_ids]
    rows, last = torch.arange(len(last)), torch.tensor(last)
    logits, seg_id = run_in_own_type(mllm.lm_head, hidden)[rows, last], mllm.tokenizer.seg_id
    return SegTokens(
        run_in_own_type(mllm.seg_projector, hidden[rows, last]), logits.argmax(-1) == seg_id,
        logits.float().softmax(-1)[:, seg_id])


class OfficialFrames:
    """What a pass needs, in the place of a :class:`FrameEncoder`.

    Each step runs the vision tower on the context frames and on all frames of the window, and the
    LLM on the whole prompt, with logits at every position. Each expression has SAM-2's features
    computed for itself, and the attention of SAM-2 takes the kernel that materialises its scores
    on a CPU, as in the release of SAM-2 on which the official code is built. Frames are read and
    resized once for each expression. Nothing is batched with other videos.

    Args:
        session: state of the video.
        frames: positions in the order in which they are needed.
        vision: whether the MLLM sees them, which it asks for itself here.
    """

    def __init__(self, model: GLUS, session: VideoSession, frames: range,
                 vision: bool = True) -> None:
        self.model = model
        self.session = session
        number = len(session.context_frame_ids) + model.test_cfg.window
        self._vision: BoundedCache[Tensor] = BoundedCache(number)
        self._frames: BoundedCache[np.ndarray] = BoundedCache(number)

    def open(self) -> Generator[Work, Any, None]:
        """Nothing is done ahead."""
        yield from ()

    def close(self) -> None:
        """Nothing is held."""

    def seg_tokens(self, prompts: Sequence[Sequence[list[int]]], window: range, kept: None = None
                   ) -> Generator[Work, Any, tuple[SegTokens, list]]:
        """As :meth:`FrameEncoder.seg_tokens`, with one turn for each track."""
        yield from ()
        images = torch.stack([
            self._vision.get(t, lambda t=t: vision_input(self.model, self._frame(t)))
            for t in [*self.session.context_frame_ids, *window]])
        seg = seg_tokens_from_scratch(self.model.mllm, [turn for turn, in prompts], images)
        seg = SegTokens(seg.tokens[:, None], seg.is_seg[:, None], seg.presence[:, None])
        return seg, [None] * len(prompts)

    def decode(self, frame_idx: int, seg_tokens: Tensor, memory: Sequence[MemoryBank],
               places: Sequence[int], points: tuple[Tensor, Tensor] | None = None
               ) -> Generator[Work, Any, HeadOutput]:
        """As :meth:`FrameEncoder.decode`."""
        yield from ()
        feats = self.model.mask_head.extract_feat(
            sam_input(self.model, self._frame(frame_idx))[None])
        kernel = sdpa_kernel(SDPBackend.MATH) if feats.top.device.type == 'cpu' else nullcontext()
        with kernel:
            return self.model.decode(
                feats, seg_tokens, memory, places, self.model.test_cfg.use_memory, points)

    def _frame(self, frame_idx: int) -> np.ndarray:
        return self._frames.get(frame_idx, lambda: self.session.frame(frame_idx))


@MODELS.register_module()
class OfficialPropagator(GLUSPropagator):
    """One expression after the other, each frame of each from scratch."""

    source = OfficialFrames

    def steps(self, model: GLUS, session: VideoSession, key_frames: Sequence[int]) -> Steps:
        """See :meth:`BasePropagator.steps`."""
        for e, key in enumerate(key_frames):
            yield from self.single_pass(model, session, {e: key}, range(key, len(session.reader)))
            if key:
                yield from self.single_pass(model, session, {e: key}, range(key, -1, -1),
                                      skip_starts=True)
