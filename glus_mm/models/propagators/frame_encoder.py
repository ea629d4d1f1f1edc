"""Features of frames for a propagator, each computed once."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
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
        image = sam2_image(session.frame(frame_idx), encoder.image_size)
        return encoder.extract_feat(model.data_preprocessor.normalize_sam(image)[None])

    return encode() if head is not None else session.sam_features.get(frame_idx, encode)


# Stages of a frame's work.
VISION, LLM, SAM, DECODE = range(4)


@dataclass(frozen=True)
class PreparedFrame:
    """A frame as the two encoders take it, on the model's device.

    Attributes:
        vision: (3, P, P).
        sam: (3, S, S).
    """

    vision: Tensor
    sam: Tensor


def prepare_frame(model: GLUS, frame: np.ndarray) -> PreparedFrame:
    """Resize and normalise a frame, uint8 (H, W, 3); a thread may do it."""
    normalize = model.data_preprocessor
    vision = vision_tower_image(frame, model.mllm.image_size, model.mllm.vision_crop)
    return PreparedFrame(
        normalize.normalize_vision(torch.from_numpy(vision.copy()).permute(2, 0, 1)),
        normalize.normalize_sam(sam2_image(frame, model.mask_head.image_size)))


class FrameEncoder:
    """Encode the frames of a sweep, each when it is first needed; threads prepare the next ones.

    What is encoded goes through the caches of the session. Close it after the sweep. Methods that
    are generators yield :class:`Work` for what is batched with other videos.

    Args:
        session: state of the video, or a :class:`LiveSession`.
        frames: positions in the order in which they are needed.
    """

    def __init__(self, model: GLUS, session: VideoSession, frames: range) -> None:
        self.model = model
        self.session = session
        self.frames = frames
        # One thread reads, in order, as video files want it; one resizes what was read.
        self._ahead = map_in_thread(
            self._read_new, frames, session.prefetch, self._prepare_new)
        self._prepared: dict[int, PreparedFrame | None] = {}

    def open(self) -> Generator[Work, Any, None]:
        """Encode the context frames at once.

        First of all, so that no thread reads elsewhere in a video file meanwhile.
        """
        kept = self.session.visual_tokens
        missing = [t for t in dict.fromkeys(self.session.context_frame_ids) if t not in kept]
        if missing:
            frames = [prepare_frame(self.model, self.session.frame(t)) for t in missing]
            for t, tokens in zip(missing, (yield self._vision_work(frames))):
                kept.get(t, lambda tokens=tokens: tokens)

    def close(self) -> None:
        """End the threads."""
        self._ahead.close()

    def release(self, frame_idx: int) -> None:
        """Forget what was prepared up to a frame: the sweep is past it."""
        place = self.frames.index(frame_idx)
        self._prepared = {t: frame for t, frame in self._prepared.items()
                          if self.frames.index(t) > place}

    def visual_tokens(self, frame_idx: int) -> Generator[Work, Any, Tensor]:
        """Visual tokens (V, D) of a frame."""
        cache = self.session.visual_tokens
        if frame_idx in cache:
            return cache[frame_idx]
        tokens, = yield self._vision_work([self._frame(frame_idx)])
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
        rests = [[prompt[cut:] for prompt in turns] for turns in prompts]
        return (yield Work(
            LLM, ('window', len(window), len(rests[0])), len(rests),
            partial(_seg_tokens, self.model.mllm), (rests, visual, prefix)))

    def next_turns(self, prompts: Sequence[list[int]], frame_idx: int, kept: Sequence[Any]
                   ) -> Generator[Work, Any, tuple[SegTokens, list[Any]]]:
        """Seg tokens (N, C) of a frame, see :meth:`BaseMLLM.next_turns`."""
        visual = (yield from self.visual_tokens(frame_idx))[None]
        _, prefix = self._prefix(prompts[0], visual)
        cfg = self.model.test_cfg
        return (yield Work(
            LLM, 'turns', len(prompts),
            partial(_next_turns, self.model.mllm, cfg.num_context, cfg.window),
            (prompts, visual, prefix, kept)))

    def decode(self, frame_idx: int, seg_tokens: Tensor, memory: Sequence[MemoryBank],
               places: Sequence[int], points: tuple[Tensor, Tensor] | None = None
               ) -> Generator[Work, Any, HeadOutput]:
        """Masks of N tracks on a frame, see :meth:`GLUS.decode`."""
        cache = self.session.sam_features
        if frame_idx in cache:
            feats = cache[frame_idx]
        else:
            made = yield Work(SAM, None, 1, partial(_sam_features, self.model),
                              self._frame(frame_idx).sam)
            feats = cache.get(frame_idx, lambda: made)
        return (yield Work(DECODE, None if points is None else self, len(memory),
                           partial(_decode, self.model),
                           (feats, seg_tokens, memory, places, points)))

    def _prefix(self, prompt: list[int], visual: Tensor) -> tuple[int, Any]:
        """Length in ids and state of the part that all prompts of the video share."""
        mllm, kept, ids = self.model.mllm, self.session.context, self.session.context_frame_ids
        cut = mllm.split_prefix(prompt, len(ids))

        def prefill():
            context = torch.stack([kept[t] for t in ids]) if ids else visual[:0]
            return mllm.prefill(prompt[:cut], context)

        return cut, self.session.prefix.get(tuple(ids), prefill)

    def _vision_work(self, frames: Sequence[PreparedFrame]) -> Work:
        return Work(VISION, None, len(frames), partial(_encode_vision, self.model.mllm),
                    torch.stack([frame.vision for frame in frames]))

    def _read_new(self, frame_idx: int) -> np.ndarray | None:
        """Runs in a thread; frames whose features are kept already are not read."""
        session = self.session
        if frame_idx in session.sam_features and frame_idx in session.visual_tokens:
            return None
        return session.frame(frame_idx)

    def _prepare_new(self, frame: np.ndarray | None) -> PreparedFrame | None:
        """Runs in another thread."""
        return None if frame is None else prepare_frame(self.model, frame)

    def _frame(self, frame_idx: int) -> PreparedFrame:
        while frame_idx not in self._prepared:
            item = next(self._ahead, None)
            if item is None:
                break
            self._prepared[item[0]] = item[1]
        prepared = self._prepared.get(frame_idx)
        if prepared is None:
            prepared = prepare_frame(self.model, self.session.frame(frame_idx))
            self._prepared[frame_idx] = prepared
        return prepared


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


def _seg_tokens(mllm: BaseMLLM, batch: list[tuple]) -> list[SegTokens]:
    """Seg tokens (n, s, C) of each video, whose windows have equally many frames."""
    if len(batch) > 1 and not mllm.joins_videos:
        return [_seg_tokens(mllm, [one])[0] for one in batch]
    rests, visual, prefix = _joined(batch)
    if len(rests[0]) > 1:
        seg = mllm.seg_tokens_of_turns(rests, visual, prefix)
    else:
        seg = mllm.next_seg_tokens([turns[0] for turns in rests], visual, prefix)
        seg = SegTokens(seg.tokens[:, None], seg.is_seg[:, None], seg.presence[:, None])
    return _split(seg, batch)


def _next_turns(mllm: BaseMLLM, num_context: int, window: int, batch: list[tuple]
                ) -> list[tuple[SegTokens, list[Any]]]:
    """Seg tokens (n, C) of each video, and what it keeps of its turns."""
    if len(batch) > 1 and not mllm.joins_videos:
        return [_next_turns(mllm, num_context, window, [one])[0] for one in batch]
    prompts, visual, prefix = _joined(batch)
    seg, kept = mllm.next_turns(
        prompts, num_context, visual, prefix, [state for one in batch for state in one[3]], window)
    states = iter(kept)
    return [(part, [next(states) for _ in one[0]])
            for part, one in zip(_split(seg, batch), batch)]


def _joined(batch: list[tuple]) -> tuple[list, Any, Any]:
    """Prompts of all videos; frames and prefix of the only one, or of each prompt."""
    if len(batch) == 1:
        return batch[0][:3]
    return ([prompt for one in batch for prompt in one[0]],
            *([one[i] for one in batch for _ in one[0]] for i in (1, 2)))


def _split(seg: SegTokens, batch: list[tuple]) -> list[SegTokens]:
    counts = [len(one[0]) for one in batch]
    return [SegTokens(*parts) for parts in zip(*(
        getattr(seg, name).split(counts) for name in ('tokens', 'is_seg', 'presence')))]


def _decode(model: GLUS, batch: list[tuple]) -> list[HeadOutput]:
    """Masks of the tracks of each video; one with clicks comes alone."""
    feats, tokens, memory, places, points = zip(*batch)
    counts = list(map(len, memory))
    joined = feats[0]
    if len(batch) > 1:
        joined = SAM2Features.join(feats).select(torch.arange(
            len(batch), device=joined.top.device).repeat_interleave(
                torch.tensor(counts, device=joined.top.device)))
    pred = model.decode(
        joined, torch.cat(tokens), [bank for banks in memory for bank in banks],
        [place for some in places for place in some], model.test_cfg.use_memory, points[0])
    if len(batch) == 1:
        return [pred]
    return [HeadOutput(*parts) for parts in zip(*(
        getattr(pred, name).split(counts) for name in HeadOutput.__dataclass_fields__))]
