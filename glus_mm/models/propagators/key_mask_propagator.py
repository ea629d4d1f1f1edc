"""GLUS makes the mask of the key frame, another model carries it through the video."""

from abc import ABCMeta, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from glus_mm.models.inference import MaskPrediction, VideoSession
from glus_mm.models.propagators.base_propagator import BasePropagator
from glus_mm.models.segmentors import GLUS
from glus_mm.utils.masks import decode_rle
from glus_mm.utils.precision import at_least_float32


class MaskTracker(metaclass=ABCMeta):
    """A semi-supervised video object segmentation model at work on one video.

    Made for each video by :meth:`KeyMaskPropagator.tracker`; it reads the frames itself. Of the
    frames it must keep a bounded number only.
    """

    @abstractmethod
    def start(self, frame_idx: int, masks: Tensor) -> Any:
        """Begin n tracks.

        Args:
            frame_idx: the key frame.
            masks: bool (n, H, W), none of them empty.

        Returns:
            The state of these tracks, for :meth:`track`.
        """

    @abstractmethod
    def track(self, frame_idx: int, state: Any, reverse: bool) -> tuple[Tensor, Tensor]:
        """Segment the next frame.

        For a state this is called with key + 1, key + 2, ... to the end of the video, then, with
        ``reverse``, with key - 1, key - 2, ... to its start; calls for other states lie between.

        Args:
            frame_idx: 0-based position.
            state: of the tracks; it may be changed.
            reverse: whether the video is followed to its start.

        Returns:
            Logits (n, ., .) of any size, above 0 on the object, and scores (n) in 0..1.
        """


@dataclass
class _Group:
    """Expressions with the same key frame: its masks, and tracks in batches (rows, state)."""

    exps: list[int]
    first: MaskPrediction
    tracks: list[tuple[Tensor, Any]]


class KeyMaskPropagator(BasePropagator):
    """Base of the propagators that hand GLUS's mask of the key frame to a :class:`MaskTracker`.

    The video is read in two passes, forward from the first key frame and backward from the last
    one, with all expressions at once: a frame is visited at most twice, whatever the number of
    expressions and key frames, and once where they all have the same key frame.

    The mask of the key frame is GLUS's own. ``seg_tokens``, ``is_seg`` and ``presence`` of all
    frames are those of the key frame, the scores what the tracker says. **Where the mask of the
    key frame is empty** (no ``[SEG]``, or an expression whose object that frame does not show)
    there is nothing to carry: the tracker is not asked, the masks of all frames are empty and all
    scores 0.

    With ``session.key_masks`` the mask of the key frame is the one that is given, and the frames
    before it, which do not show the object, have empty masks.
    """

    takes_masks = True

    @abstractmethod
    def tracker(self, model: GLUS, session: VideoSession) -> MaskTracker:
        """Make the tracker of one video."""

    def segment(self, model: GLUS, session: VideoSession, key_frames: Sequence[int]
                ) -> Iterator[tuple[int, list[int], MaskPrediction]]:
        """See :meth:`BasePropagator.segment`."""
        if not key_frames:
            return
        # What the backward pass sees again; the bound is test_cfg.feature_cache.
        between = range(min(key_frames), max(key_frames) + 1)
        session.keep_features(between if max(key_frames) else range(0))
        tracker = self.tracker(model, session)
        groups: dict[int, _Group] = {}
        for t in range(min(key_frames), len(session.reader)):
            for group in groups.values():
                yield t, group.exps, self._advance(tracker, group, t, reverse=False)
            exps = [e for e, key in enumerate(key_frames) if key == t]
            if exps:
                groups[t] = self._start(model, session, tracker, exps, t)
                yield t, exps, groups[t].first
        if session.key_masks is not None:
            for group in groups.values():
                group.tracks.clear()
        for t in range(max(key_frames) - 1, -1, -1):
            for key, group in groups.items():
                if t < key:
                    yield t, group.exps, self._advance(tracker, group, t, reverse=True)

    def _start(self, model: GLUS, session: VideoSession, tracker: MaskTracker,
               exps: list[int], key: int) -> _Group:
        """Find the objects on the key frame."""
        if session.key_masks is None:
            with closing(model.propagate(session, exps, key)) as steps:
                _, first = next(steps)
        else:
            # The masks that are given, as GLUS would have found them.
            device = next(model.mask_head.parameters()).device
            masks = torch.stack([torch.from_numpy(decode_rle(session.key_masks[e])) for e in exps])
            masks = masks.to(device, torch.bool)
            ones = torch.ones(len(exps), device=device)
            first = MaskPrediction(
                masks, masks * 20.0 - 10.0, ones[:, None], ones.bool(), ones, ones)
        found = first.masks.flatten(1).any(1)
        first = replace(first, scores=first.scores * found)
        rows = found.nonzero()[:, 0]
        batches = rows.split(model.test_cfg.max_expressions) if len(rows) else ()
        return _Group(exps, first, [(some, tracker.start(key, first.masks[some]))
                                    for some in batches])

    @torch.no_grad()
    def _advance(self, tracker: MaskTracker, group: _Group, frame_idx: int,
                 reverse: bool) -> MaskPrediction:
        """Masks of the next frame for all expressions of a group."""
        first = group.first
        logits = torch.full_like(first.low_res_logits, float('-inf'))
        masks, scores = torch.zeros_like(first.masks), torch.zeros_like(first.scores)
        for rows, state in group.tracks:
            out, expected = tracker.track(frame_idx, state, reverse)
            out = at_least_float32(out)
            masks[rows] = _resized(out, masks.shape[1:]) > 0
            logits[rows] = _resized(out, logits.shape[1:]).to(logits.dtype)
            scores[rows] = expected.to(scores.dtype)
        return replace(first, masks=masks, low_res_logits=logits, scores=scores)


def _resized(logits: Tensor, size: Sequence[int]) -> Tensor:
    """(n, h, w) at another size."""
    if logits.shape[1:] == tuple(size):
        return logits
    return F.interpolate(
        logits[:, None], tuple(size), mode='bilinear', align_corners=False)[:, 0]
