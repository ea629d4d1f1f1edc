"""Features of frames for a propagator, each computed once."""

from collections.abc import Callable, Generator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from glus_mm.models.heads import HeadOutput, MemoryBank, SAM2Features, SAM2MemoryHead
from glus_mm.models.inference import VideoSession, map_in_thread
from glus_mm.models.inference.together import Work
from glus_mm.models.mllms.base_mllm import BaseMLLM, SegTokens
from glus_mm.models.segmentors import GLUS
from glus_mm.utils.image import sam2_image, vision_tower_image


@torch.no_grad()
def frame_features(model: GLUS, session: VideoSession, frame_idx: int,
                   head: SAM2MemoryHead | None = None) -> SAM2Features:
    """Features of one frame (M = 1).

    Args:
        model: whose preprocessor normalises the frame.
        session: state of the video. Features of the model's own mask head go through its cache.
        frame_idx: 0-based position.
        head: another SAM-2 than the model's; its features are not kept.
    """
    encoder = model.mask_head if head is None else head

    def encode() -> SAM2Features:
        return encoder.extract_feat(sam_input(model, session.frame(frame_idx), head)[None])

    return encode() if head is not None else session.sam_features.get(frame_idx, encode)


# Stages of a frame's work.
VISION, LLM, SAM, DECODE = range(4)


def vision_input(model: GLUS, frame: np.ndarray) -> Tensor:
    """A frame, uint8 (H, W, 3), as the vision tower takes it, (3, P, P) on the model's device."""
    image = vision_tower_image(frame, model.mllm.image_size, model.mllm.vision_crop)
    return model.data_preprocessor.normalize_vision(
        torch.from_numpy(image.copy()).permute(2, 0, 1))


def sam_input(model: GLUS, frame: np.ndarray, head: SAM2MemoryHead | None = None) -> Tensor:
    """A frame, uint8 (H, W, 3), as the mask head or another one takes it, (3, S, S)."""
    return model.data_preprocessor.normalize_sam(
        sam2_image(frame, (head or model.mask_head).image_size))

# A frame that was read, and what was made of it.
_Read = tuple[np.ndarray, dict[Callable, Tensor]]


class FrameEncoder:
    """Encode the frames of a pass, each when it is first needed; threads prepare the next ones.

    What is encoded goes through the caches of the session. ``close()`` after the pass ends the
    threads. Methods that are generators yield :class:`Work` for what is batched with other videos.

    Args:
        session: state of the video, or a :class:`LiveSession`.
        frames: positions in the order in which they are needed.
        vision: whether the MLLM sees them; False where they are only decoded.
    """

    def __init__(self, model: GLUS, session: VideoSession, frames: range,
                 vision: bool = True) -> None:
        self.model = model
        self.session = session
        kept = {sam_input: session.sam_features}
        if vision:
            kept[vision_input] = session.visual_tokens
        # One thread reads, in order, as video files want it; one makes the images of what was
        # read. Features that are kept already need neither.
        self._ahead = map_in_thread(
            lambda t: (session.frame(t), lacking) if (lacking := [
                make for make, cache in kept.items() if t not in cache]) else None,
            frames, session.prefetch,
            lambda read: read and (read[0], {
                make: make(model, read[0]) for make in read[1] if session.prefetch}))
        self.close = self._ahead.close
        self._prepared: dict[int, _Read | None] = {}

    def open(self) -> Generator[Work, Any, None]:
        """Encode the context frames at once.

        First of all, so that no thread reads elsewhere in a video file meanwhile.
        """
        kept = self.session.visual_tokens
        missing = [t for t in dict.fromkeys(self.session.context_frame_ids) if t not in kept]
        if missing:
            images = torch.stack([
                vision_input(self.model, self.session.frame(t)) for t in missing])
            made = yield Work(
                VISION, None, len(missing), partial(_encode_vision, self.model.mllm), images)
            for t, tokens in zip(missing, made):
                kept.get(t, lambda tokens=tokens: tokens)

    def visual_tokens(self, frame_idx: int) -> Generator[Work, Any, Tensor]:
        """Visual tokens (V, D) of a frame."""
        cache = self.session.visual_tokens
        if frame_idx in cache:
            return cache[frame_idx]
        tokens, = yield Work(VISION, None, 1, partial(_encode_vision, self.model.mllm),
                             self._image(vision_input, frame_idx)[None])
        return cache.get(frame_idx, lambda: tokens)

    def seg_tokens(self, prompts: Sequence[Sequence[list[int]]], window: range
                   ) -> Generator[Work, Any, SegTokens]:
        """Seg tokens of the last frames of a window.

        Args:
            prompts: (N) of each track a prompt for each of its s newest turns.
            window: positions of the frames that the last prompts show.

        Returns:
            Seg tokens (N, s, C), whether each is a ``[SEG]``, and its probability, (N, s).
        """
        visual = []
        for t in window:
            visual.append((yield from self.visual_tokens(t)))
        visual = torch.stack(visual)
        cut, prefix = self._prefix(prompts[0][0], visual)
        rests, mllm = [[prompt[cut:] for prompt in turns] for turns in prompts], self.model.mllm

        def run(rests: list, visual: Any, prefix: Any, kept: list) -> tuple[SegTokens, list]:
            if len(rests[0]) > 1:
                return mllm.seg_tokens_of_turns(rests, visual, prefix), kept
            seg = mllm.next_seg_tokens([turns[0] for turns in rests], visual, prefix)
            return SegTokens(seg.tokens[:, None], seg.is_seg[:, None], seg.presence[:, None]), kept

        seg, _ = yield Work(
            LLM, ('window', len(window), len(rests[0])), len(rests),
            partial(_run_llm, mllm, run), (rests, visual, prefix, [None] * len(rests)))
        return seg

    def next_turns(self, prompts: Sequence[list[int]], frame_idx: int, kept: Sequence[Any]
                   ) -> Generator[Work, Any, tuple[SegTokens, list[Any]]]:
        """Seg tokens (N, C) of a frame, see :meth:`BaseMLLM.next_turns`."""
        visual = (yield from self.visual_tokens(frame_idx))[None]
        _, prefix = self._prefix(prompts[0], visual)
        cfg, mllm = self.model.test_cfg, self.model.mllm

        def run(prompts: list, visual: Any, prefix: Any, kept: list) -> tuple[SegTokens, list]:
            return mllm.next_turns(prompts, cfg.num_context, visual, prefix, kept, cfg.window)

        return (yield Work(LLM, 'turns', len(prompts), partial(_run_llm, mllm, run),
                           (prompts, visual, prefix, kept)))

    def decode(self, frame_idx: int, seg_tokens: Tensor, memory: Sequence[MemoryBank],
               frame_ids: Sequence[int], points: tuple[Tensor, Tensor] | None = None
               ) -> Generator[Work, Any, HeadOutput]:
        """Masks of N tracks on a frame, see :meth:`GLUS.decode`."""
        cache = self.session.sam_features
        if frame_idx in cache:
            feats = cache[frame_idx]
        else:
            made = yield Work(SAM, None, 1, partial(_sam_features, self.model),
                              self._image(sam_input, frame_idx))
            feats = cache.get(frame_idx, lambda: made)
        return (yield Work(DECODE, None if points is None else self, len(memory),
                           partial(_decode, self.model),
                           (feats, seg_tokens, memory, frame_ids, points)))

    def _prefix(self, prompt: list[int], visual: Tensor) -> tuple[int, Any]:
        """Length in ids and state of the part that all prompts of the video share."""
        mllm, kept, ids = self.model.mllm, self.session.context, self.session.context_frame_ids
        cut = mllm.split_prefix(prompt, len(ids))
        return cut, self.session.prefix.get(tuple(ids), lambda: mllm.prefill(
            prompt[:cut], torch.stack([kept[t] for t in ids]) if ids else visual[:0]))

    def _image(self, make: Callable[[GLUS, np.ndarray], Tensor], frame_idx: int) -> Tensor:
        """A frame of the pass as an encoder takes it.

        Frames of one step of the window are kept, as it looks ahead.
        """
        while frame_idx not in self._prepared and (item := next(self._ahead, None)):
            self._prepared.update([item])
            if len(self._prepared) > self.model.test_cfg.window_stride:
                del self._prepared[next(iter(self._prepared))]
        frame, images = self._prepared.get(frame_idx) or (self.session.frame(frame_idx), {})
        self._prepared[frame_idx] = frame, images
        if make not in images:
            images[make] = make(self.model, frame)
        return images[make]


# What is done for the works of several videos at once. A single one is done as it always was.

def _encode_vision(mllm: BaseMLLM, batch: list[Tensor]) -> list[Tensor]:
    """Visual tokens (n, V, D) of images (n, 3, P, P) of each video."""
    return list(mllm.encode_images(torch.cat(batch)).split(list(map(len, batch))))


def _sam_features(model: GLUS, batch: list[Tensor]) -> list[SAM2Features]:
    """SAM-2's features, M = 1, of an image (3, S, S) of each video."""
    feats = model.mask_head.extract_feat(torch.stack(batch))
    if len(batch) == 1:
        return [feats]
    return [feats.select(torch.tensor([i], device=feats.top.device)) for i in range(len(batch))]


def _run_llm(mllm: BaseMLLM, run: Callable[..., tuple[SegTokens, list]],
             batch: list[tuple[list, Tensor, Any, list]]) -> list[tuple[SegTokens, list]]:
    """Seg tokens of each video, and what it keeps of its turns.

    ``run`` gets the prompts of all videos, the frames and the prefix of the only one, or of each
    prompt, and what is kept of the turns of each conversation.
    """
    if len(batch) == 1 or not mllm.joins_videos:
        return [run(*one) for one in batch]
    counts = [len(one[0]) for one in batch]
    prompts, kept = ([row for one in batch for row in one[i]] for i in (0, 3))
    visual, prefix = ([one[i] for one in batch for _ in one[0]] for i in (1, 2))
    seg, kept = run(prompts, visual, prefix, kept)
    states = iter(kept)
    return [(SegTokens(*parts), [next(states) for _ in range(number)]) for number, *parts in zip(
        counts, *(getattr(seg, name).split(counts) for name in ('tokens', 'is_seg', 'presence')))]


def _decode(model: GLUS, batch: list[tuple]) -> list[HeadOutput]:
    """Masks of the tracks of each video; one with clicks comes alone."""
    feats, tokens, memory, frame_ids, points = zip(*batch)
    counts = list(map(len, memory))
    joined = feats[0]
    if len(batch) > 1:
        joined = SAM2Features.join(feats).select(torch.arange(
            len(batch), device=joined.top.device).repeat_interleave(
                torch.tensor(counts, device=joined.top.device)))
    pred = model.decode(
        joined, torch.cat(tokens), [bank for banks in memory for bank in banks],
        [idx for some in frame_ids for idx in some], model.test_cfg.use_memory, points[0])
    if len(batch) == 1:
        return [pred]
    return [HeadOutput(*parts) for parts in zip(*(
        getattr(pred, name).split(counts) for name in HeadOutput.__dataclass_fields__))]
