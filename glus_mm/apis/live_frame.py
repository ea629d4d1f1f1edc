"""What a live stream gives for one frame, and what it knows texts by."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class LiveText:
    """A text of a live stream; ``LiveStream.drop`` takes it.

    Attributes:
        key: number of the text in its stream, never used again.
        text: the referring expression.
    """

    key: int
    text: str


@dataclass(frozen=True)
class LiveFrame:
    """Masks of one frame for the ``E`` texts that are followed at that time.

    Attributes:
        frame_idx: position in the source; some are missing where frames are skipped.
        image: the frame, RGB uint8 (H, W, 3).
        texts: (E) in the order in which they were added.
        masks: bool (E, H, W).
        scores: float32 (E), the IoU that the mask decoder expects, 0 without ``[SEG]``.
        is_seg: bool (E), whether a ``[SEG]`` was generated; where not, the mask is empty.
        presence: float32 (E), the probability of ``[SEG]``.
    """

    frame_idx: int
    image: np.ndarray
    texts: tuple[LiveText, ...]
    masks: np.ndarray
    scores: np.ndarray
    is_seg: np.ndarray
    presence: np.ndarray
