"""All inference state of one video."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from glus_mm.models.heads.sam2_memory_head import SAM2Features
from glus_mm.models.inference.caches import BoundedCache
from glus_mm.models.inference.frame_reader import FrameReader


@dataclass(frozen=True)
class MaskPrediction:
    """Predictions for ``E`` expressions on one frame.

    Attributes:
        masks: bool (E, H, W).
        low_res_logits: (E, h, w); a mask without ``[SEG]`` has -inf everywhere.
        seg_tokens: (E, C).
        is_seg: bool (E), whether ``[SEG]`` was generated; where not, the mask is empty.
        scores: (E) the IoU that the mask decoder expects, 0 without ``[SEG]``.
    """

    masks: Tensor
    low_res_logits: Tensor
    seg_tokens: Tensor
    is_seg: Tensor
    scores: Tensor


class VideoSession:
    """What the expressions and both directions of a video share; the model itself keeps nothing.

    Args:
        reader: the frames.
        expressions: (E).
        context_frame_ids: (Tc) 0-based positions.
        window: query frames whose visual tokens are kept; 0 keeps no feature at all.
    """

    def __init__(self, reader: FrameReader, expressions: tuple[str, ...],
                 context_frame_ids: list[int], window: int) -> None:
        self.reader = reader
        self.expressions = expressions
        self.context_frame_ids = context_frame_ids
        self.visual_tokens: BoundedCache[Tensor] = BoundedCache(window)
        self.sam_features: BoundedCache[SAM2Features] = BoundedCache(min(window, 1))
        self.prefix: BoundedCache[Any] = BoundedCache(min(window, 1))
        self._frames: BoundedCache[Any] = BoundedCache(2)

    def frame(self, frame_idx: int):
        """Frame at a position, uint8 (H, W, 3); both encoders read it, so it is kept shortly."""
        return self._frames.get(frame_idx, lambda: self.reader.read(frame_idx))
