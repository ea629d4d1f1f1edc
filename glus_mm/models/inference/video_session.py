"""All inference state of one video."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from glus_mm.utils.bounded_cache import BoundedCache
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

    def select(self, rows: Sequence[int]) -> MaskPrediction:
        """The predictions of some of the expressions."""
        return MaskPrediction(*(values[rows] for values in vars(self).values()))


class VideoSession:
    """What the expressions and both directions of a video share; the model itself keeps nothing.

    Args:
        reader: the frames.
        expressions: (E).
        context_frame_ids: (Tc) 0-based positions.
        window: query frames whose visual tokens are kept.
        feature_cache: frames whose features are kept besides, between the two directions.
        prefetch: frames that are read and resized ahead in a thread; 0 for readers whose frames
            come as they are asked for.
        key_masks: (E) COCO RLEs of the masks on the key frames, where they are given.

    Attributes:
        context (Mapping[int, Tensor]): visual tokens (V, D) of the context frames, once they were
            encoded.
    """

    def __init__(self, reader: FrameReader, expressions: tuple[str, ...],
                 context_frame_ids: list[int], window: int, feature_cache: int = 0,
                 prefetch: int = 0, key_masks: Sequence[dict] | None = None) -> None:
        self.reader = reader
        self.expressions = expressions
        self.context_frame_ids = context_frame_ids
        self.feature_cache = feature_cache
        self.prefetch = prefetch
        self.key_masks = key_masks
        self.visual_tokens: BoundedCache[Tensor] = BoundedCache(
            window, feature_cache + len(context_frame_ids))
        self.context = self.visual_tokens
        self.sam_features: BoundedCache[SAM2Features] = BoundedCache(1, feature_cache)
        self.prefix: BoundedCache[Any] = BoundedCache(1)
        self._reading = threading.Lock()
        self.keep_features(range(0))

    def frame(self, frame_idx: int) -> np.ndarray:
        """Read a frame, uint8 (H, W, 3); may be called from several threads."""
        with self._reading:
            return self.reader.read(frame_idx)

    def keep_features(self, frames: range) -> None:
        """Keep the features of these frames until others are named; the bound cuts the start.

        Visual tokens of the context frames always stay.
        """
        frames = frames[max(len(frames) - self.feature_cache, 0):]
        self.visual_tokens.pin({*frames, *self.context_frame_ids})
        self.sam_features.pin(frames)
