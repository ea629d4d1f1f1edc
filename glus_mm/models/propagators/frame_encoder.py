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

    def seg_tokens(self, prompts: Sequence[Sequence[list[int]]], window: range,
                   kept: Sequence[Any] | None = None
                   ) -> Generator[Work, Any, tuple[SegTokens, list[Any]]]:
        """Seg tokens of the last frames of a window.

        Args:
            prompts: (N) of each track a prompt for each of its s newest turns.
            window: positions of the frames that the last prompts show.
            kept: (N) what each track keeps of earlier turns, which the only prompt of each goes on
                from, see :meth:`BaseMLLM.next_turns`; None runs whole windows.

        Returns:
            Seg tokens (N, s, C), whether each is a ``[SEG]``, and its probability, (N, s); and what
            each track is to keep.
        """
        visual = []
        for t in window:
            visual.append((yield from self.visual_tokens(t)))
        visual = torch.stack(visual)
        mllm, ids, first = self.model.mllm, self.session.context_frame_ids, prompts[0][0]
        context, cut = self.session.context, mllm.split_prefix(first, len(ids))
        prefix = self.session.prefix.get(tuple(ids), lambda: mllm.prefill(
            first[:cut], torch.stack([context[t] for t in ids]) if ids else visual[:0]))
        turns = kept is not None
        rests = prompts if turns else [[prompt[cut:] for prompt in some] for some in prompts]
        return (yield Work(
            LLM, (turns, len(window), len(rests[0])), len(rests),
            partial(_run_llm, self.model, turns),
            (rests, visual, prefix, kept if turns else [None] * len(rests))))

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


def _run_llm(model: GLUS, turns: bool, batch: list[tuple[list, Tensor, Any, list]]
             ) -> list[tuple[SegTokens, list]]:
    """Seg tokens of each video, and what it keeps of its turns.

    The MLLM gets the prompts of all videos, and the frames and the prefix of the only one, or of
    each prompt. ``turns`` says whether prompts go on from what is kept.
    """
    mllm, cfg = model.mllm, model.test_cfg
    if len(batch) > 1 and not mllm.joins_videos:
        return [made for one in batch for made in _run_llm(model, turns, [one])]
    counts = [len(one[0]) for one in batch]
    prompts, kept = ([row for one in batch for row in one[i]] for i in (0, 3))
    _, visual, prefix, _ = batch[0]
    if len(batch) > 1:
        visual, prefix = ([one[i] for one in batch for _ in one[0]] for i in (1, 2))
    if len(prompts[0]) > 1:
        seg = mllm.seg_tokens_of_turns(prompts, visual, prefix)
    else:
        newest = [prompt for prompt, in prompts]
        if turns:
            seg, kept = mllm.next_turns(
                newest, cfg.num_context, visual, prefix, kept, cfg.window)
        else:
            seg = mllm.next_seg_tokens(newest, visual, prefix)
        seg = SegTokens(seg.tokens[:, None], seg.is_seg[:, None], seg.presence[:, None])
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
