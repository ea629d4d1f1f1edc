"""What carries masks through a video, once it has them on one frame."""

from abc import ABCMeta, abstractmethod
from typing import Any

from torch import Tensor


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
