"""All inference state of one video."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from glus_mm.models.inference.caches import BoundedCache
from glus_mm.video import FrameReader

if TYPE_CHECKING:  # the readers' package must not load the models
    from glus_mm.models.heads.memory_head import SAM2Features


@dataclass(frozen=True)
class MaskPrediction:
    """Predictions for ``E`` expressions on one frame.

    Attributes:
        masks: bool (E, H, W).
        low_res_logits: (E, h, w); a mask without ``[SEG]`` has -inf everywhere.
        seg_tokens: (E, C).
        is_seg: bool (E), whether ``[SEG]`` was generated; where not, the mask is empty.
        scores: (E) the IoU that the mask decoder expects, 0 without ``[SEG]``.
        presence: float32 (E), the probability of ``[SEG]``, with which the object is said to be
            visible; nan where the MLLM does not tell.
    """

    masks: Tensor
    low_res_logits: Tensor
    seg_tokens: Tensor
    is_seg: Tensor
    scores: Tensor
    presence: Tensor


class VideoSession:
    """What the expressions and both directions of a video share; the model itself keeps nothing.

    Args:
        reader: the frames.
        expressions: (E).
        context_frame_ids: (Tc) 0-based positions.
        window: query frames whose visual tokens are kept; 0 keeps no feature at all.
        feature_cache: frames whose features are kept besides, between the two directions.
        prefetch: frames that are read and resized ahead in a thread; 0 for readers whose frames
            come as they are asked for.
        key_masks: (E) COCO RLEs of the masks on the key frames, where they are given.
    """

    def __init__(self, reader: FrameReader, expressions: tuple[str, ...],
                 context_frame_ids: list[int], window: int, feature_cache: int = 0,
                 prefetch: int = 0, key_masks: Sequence[dict] | None = None) -> None:
        self.reader = reader
        self.expressions = expressions
        self.context_frame_ids = context_frame_ids
        self.feature_cache = feature_cache if window else 0
        self.prefetch = prefetch
        self.key_masks = key_masks
        self.visual_tokens: BoundedCache[Tensor] = BoundedCache(window, self.feature_cache)
        self.sam_features: BoundedCache[SAM2Features] = BoundedCache(
            min(window, 1), self.feature_cache)
        self.context_tokens: BoundedCache[Tensor] = BoundedCache(
            len(context_frame_ids) if window else 0)
        self.prefix: BoundedCache[Any] = BoundedCache(min(window, 1))
        self._frames: BoundedCache[Any] = BoundedCache(2)
        self._reading = threading.Lock()

    def frame(self, frame_idx: int):
        """Frame at a position, uint8 (H, W, 3); both encoders read it, so it is kept shortly.

        May be called from several threads.
        """
        with self._reading:
            return self._frames.get(frame_idx, lambda: self.reader.read(frame_idx))

    def keep_features(self, frames: range) -> None:
        """Keep the features of these frames until others are named; the bound cuts the start."""
        frames = frames[max(len(frames) - self.feature_cache, 0):]
        self.visual_tokens.pin(frames)
        self.sam_features.pin(frames)
