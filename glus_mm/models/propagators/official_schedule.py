"""The official order of work: everything computed anew for each expression and frame."""

from collections.abc import Generator, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from glus_mm.models.heads import HeadOutput, MemoryBank
from glus_mm.models.inference import BoundedCache, VideoSession
from glus_mm.models.inference.together import Work
from glus_mm.models.mllms.base_mllm import SegTokens
from glus_mm.models.propagators.frame_encoder import PreparedFrame, prepare_frame

if TYPE_CHECKING:
    from glus_mm.models.segmentors.glus import GLUS


class OfficialFrames:
    """What a sweep needs, computed as the official code does: the baseline of the benchmarks.

    Each step runs the vision tower on the context frames and on all frames of the window, and the
    LLM on the whole prompt, with logits at every position. Each expression has SAM-2's features
    computed for itself, and the attention of SAM-2 takes the kernel that materialises its scores
    on a CPU, as in the release of SAM-2 on which the official code is built. Frames are read and
    resized once for each expression. Mask and memory modules are the stock ones.

    Args:
        session: state of the video.
        frames: positions in the order in which they are needed; not used ahead.
    """

    def __init__(self, model: 'GLUS', session: VideoSession, frames: range) -> None:
        self.model = model
        self.session = session
        self._prepared: BoundedCache[PreparedFrame] = BoundedCache(
            len(session.context_frame_ids) + model.test_cfg.window)

    def open(self) -> Generator[Work, Any, None]:
        """Nothing is done ahead; nothing here is batched with other videos."""
        yield from ()

    def close(self) -> None:
        """Nothing is held."""

    def release(self, frame_idx: int) -> None:
        """Nothing is held of a frame that is past."""

    def seg_tokens(self, prompts: Sequence[Sequence[list[int]]], window: range
                   ) -> Generator[Work, Any, SegTokens]:
        """As :meth:`FrameEncoder.seg_tokens`, with one turn for each track."""
        yield from ()
        images = torch.stack([self._prepare(t).vision
                              for t in [*self.session.context_frame_ids, *window]])
        seg = self.model.mllm.seg_tokens_from_scratch([turns[0] for turns in prompts], images)
        return SegTokens(seg.tokens[:, None], seg.is_seg[:, None], seg.presence[:, None])

    def decode(self, frame_idx: int, seg_tokens: Tensor, memory: Sequence[MemoryBank],
               places: Sequence[int], points: tuple[Tensor, Tensor] | None = None
               ) -> Generator[Work, Any, HeadOutput]:
        """As :meth:`FrameEncoder.decode`."""
        yield from ()
        feats = self.model.mask_head.extract_feat(self._prepare(frame_idx).sam[None])
        kernel = sdpa_kernel(SDPBackend.MATH) if feats.top.device.type == 'cpu' else nullcontext()
        with kernel:
            return self.model.decode(
                feats, seg_tokens, memory, places, self.model.test_cfg.use_memory, points)

    def _prepare(self, frame_idx: int) -> PreparedFrame:
        return self._prepared.get(
            frame_idx, lambda: prepare_frame(self.model, self.session.frame(frame_idx)))
