"""A view of a video with its frames in another order."""

from collections.abc import Sequence

import numpy as np

from glus_mm.video import FrameReader


class ReorderedReader(FrameReader):
    """The frames of another reader in an order of one's own; nothing is copied or closed.

    Args:
        reader: the video.
        order: its positions, each at most once.
    """

    def __init__(self, reader: FrameReader, order: Sequence[int]) -> None:
        super().__init__([reader.frame_names[t] for t in order], reader.source)
        self.reader = reader
        self.order = tuple(order)

    def _read(self, frame_idx: int) -> np.ndarray:
        return self.reader.read(self.order[frame_idx])
