"""Features of the frames of a sweep: each is read, resized and encoded once."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from glus_mm.models.heads import SAM2Features
from glus_mm.models.inference import VideoSession, map_in_thread
from glus_mm.models.mllms.base_mllm import SegTokens
from glus_mm.utils.image import sam2_image, vision_tower_image

if TYPE_CHECKING:
    from glus_mm.models.segmentors.glus import GLUS


@dataclass(frozen=True)
class PreparedFrame:
    """A frame at the sizes of the two encoders, on the host.

    Attributes:
        vision: uint8 (3, P, P).
        sam: float32 (3, S, S) in 0..1.
    """

    vision: Tensor
    sam: Tensor


def prepare_frame(model: 'GLUS', session: VideoSession, frame_idx: int) -> PreparedFrame:
    """Read a frame and resize it; needs no device, so that a thread may do it.

    Args:
        model: whose sizes count.
        session: state of the video.
        frame_idx: 0-based position.
    """
    frame = session.frame(frame_idx)
    vision = vision_tower_image(frame, model.mllm.image_size, model.mllm.vision_crop)
    return PreparedFrame(torch.from_numpy(vision.copy()).permute(2, 0, 1),
                         sam2_image(frame, model.mask_head.image_size))


class FrameEncoder:
    """Encode the frames of a sweep, each when it is first needed; a thread prepares the next ones.

    What is encoded goes through the caches of the session. Close it after the sweep.

    Args:
        model: the model.
        session: state of the video.
        frames: positions in the order in which they are needed.
    """

    def __init__(self, model: 'GLUS', session: VideoSession, frames: range) -> None:
        self.model = model
        self.session = session
        self.frames = frames
        # First of all, so that no thread reads elsewhere in a video file meanwhile.
        self._encode_context()
        self._ahead = map_in_thread(self._prepare_new, frames, session.prefetch)
        self._prepared: dict[int, PreparedFrame | None] = {}

    def close(self) -> None:
        """End the thread."""
        self._ahead.close()

    def release(self, frame_idx: int) -> None:
        """Forget what was prepared up to a frame: the sweep is past it."""
        place = self.frames.index(frame_idx)
        self._prepared = {t: frame for t, frame in self._prepared.items()
                          if self.frames.index(t) > place}

    def context_tokens(self) -> Tensor:
        """Visual tokens (Tc, V, D) of the context frames, kept for the whole video."""
        ids = self.session.context_frame_ids
        return torch.stack([self._context_frame(t) for t in ids])

    def visual_tokens(self, frame_idx: int) -> Tensor:
        """Visual tokens (V, D) of a frame."""
        if frame_idx in self.session.context_tokens:
            return self._context_frame(frame_idx)
        return self.session.visual_tokens.get(
            frame_idx, lambda: self._encode_vision([self._frame(frame_idx)])[0])

    def seg_tokens(self, prompts: Sequence[Sequence[list[int]]], window: range) -> SegTokens:
        """Seg tokens of the last frames of a window.

        Args:
            prompts: (N) of each track a prompt for each of its s newest turns.
            window: positions of the frames that the last prompts show.

        Returns:
            Seg tokens (N, s, C), whether each is a ``[SEG]``, and its probability, (N, s).
        """
        mllm = self.model.mllm
        visual = torch.stack([self.visual_tokens(t) for t in window])
        cut, prefix = self._prefix(prompts[0][0], visual)
        rests = [[prompt[cut:] for prompt in turns] for turns in prompts]
        if len(rests[0]) > 1:
            return mllm.seg_tokens_of_turns(rests, visual, prefix)
        seg = mllm.next_seg_tokens([turns[0] for turns in rests], visual, prefix)
        return SegTokens(seg.tokens[:, None], seg.is_seg[:, None], seg.presence[:, None])

    def next_turns(self, prompts: Sequence[list[int]], frame_idx: int, kept: Sequence[Any]
                   ) -> tuple[SegTokens, list[Any]]:
        """Seg tokens (N, C) of a frame, see :meth:`BaseMLLM.next_turns`."""
        visual = self.visual_tokens(frame_idx)[None]
        _, prefix = self._prefix(prompts[0], visual)
        return self.model.mllm.next_turns(
            prompts, len(self.session.context_frame_ids), visual, prefix, kept,
            self.model.test_cfg.window)

    def _prefix(self, prompt: list[int], visual: Tensor) -> tuple[int, Any]:
        """Length in ids and state of the part that all prompts of the video share."""
        mllm, num_context = self.model.mllm, len(self.session.context_frame_ids)
        cut = mllm.split_prefix(prompt, num_context)

        def prefill():
            context = self.context_tokens() if num_context else visual[:0]
            return mllm.prefill(prompt[:cut], context)

        return cut, self.session.prefix.get('prefix', prefill)

    def sam_features(self, frame_idx: int) -> SAM2Features:
        """SAM-2's features of a frame, M = 1."""

        def encode() -> SAM2Features:
            image = self.model.data_preprocessor.normalize_sam(self._frame(frame_idx).sam)
            return self.model.mask_head.extract_feat(image[None])

        return self.session.sam_features.get(frame_idx, encode)

    def attention_kernel(self, device: torch.device) -> AbstractContextManager:
        """The kernel of SAM-2's attention: the fastest that the device has."""
        return nullcontext()

    def _context_frame(self, frame_idx: int) -> Tensor:
        return self.session.context_tokens.get(frame_idx, lambda: self._encode_vision(
            [prepare_frame(self.model, self.session, frame_idx)])[0])

    def _encode_context(self) -> None:
        """Encode the context frames at once."""
        kept = self.session.context_tokens
        missing = [t for t in dict.fromkeys(self.session.context_frame_ids) if t not in kept]
        if missing:
            frames = [prepare_frame(self.model, self.session, t) for t in missing]
            for t, tokens in zip(missing, self._encode_vision(frames)):
                kept.get(t, lambda tokens=tokens: tokens)

    def _encode_vision(self, frames: Sequence[PreparedFrame]) -> Tensor:
        images = torch.stack([frame.vision for frame in frames])
        return self.model.mllm.encode_images(self.model.data_preprocessor.normalize_vision(images))

    def _prepare_new(self, frame_idx: int) -> PreparedFrame | None:
        """Runs in the thread; frames whose features are kept already are not read."""
        session = self.session
        if frame_idx in session.sam_features and (
                frame_idx in session.visual_tokens or frame_idx in session.context_tokens):
            return None
        return prepare_frame(self.model, session, frame_idx)

    def _frame(self, frame_idx: int) -> PreparedFrame:
        while frame_idx not in self._prepared:
            item = next(self._ahead, None)
            if item is None:
                break
            self._prepared[item[0]] = item[1]
        prepared = self._prepared.get(frame_idx)
        if prepared is None:
            prepared = prepare_frame(self.model, self.session, frame_idx)
            self._prepared[frame_idx] = prepared
        return prepared
