"""Masks that are decoded when they are looked at."""

from collections.abc import Iterator, Sequence
from typing import overload

import numpy as np

from glus_mm.utils.masks import decode_rle


class RLEMaskSequence(Sequence[np.ndarray | None]):
    """The masks of one expression, held as COCO RLE.

    ``sequence[t]`` decodes a bool mask (H, W), a new array each time; a slice gives another
    sequence without decoding.

    Args:
        rles: (T) COCO RLEs; None, which stays None, where a video broke off before the frame.

    Attributes:
        rles: (T) what the masks are decoded from, ready for JSON.
    """

    def __init__(self, rles: Sequence[dict | None]) -> None:
        self.rles: list[dict | None] = list(rles)

    def __len__(self) -> int:
        """Number of frames, T."""
        return len(self.rles)

    @overload
    def __getitem__(self, index: int) -> np.ndarray | None: ...

    @overload
    def __getitem__(self, index: slice) -> 'RLEMaskSequence': ...

    def __getitem__(self, index: int | slice) -> 'np.ndarray | RLEMaskSequence | None':
        """Decode the mask (H, W) of a frame, or cut out a part of the video."""
        if isinstance(index, slice):
            return RLEMaskSequence(self.rles[index])
        return _decode(self.rles[index])

    def __iter__(self) -> Iterator[np.ndarray | None]:
        """Decode the masks one by one."""
        return map(_decode, self.rles)

    def __repr__(self) -> str:
        """Length only: there may be thousands of masks."""
        return f'{type(self).__name__}({len(self)} masks)'


def _decode(rle: dict | None) -> np.ndarray | None:
    return None if rle is None else decode_rle(rle)
