"""Masks as COCO RLE and as PNG files."""

from collections.abc import Sequence
from os import PathLike

import cv2
import numpy as np
from pycocotools import mask as coco_mask


def encode_mask(mask: np.ndarray) -> dict:
    """Encode a binary mask.

    Args:
        mask: bool or uint8 (H, W); any nonzero pixel is foreground.

    Returns:
        COCO RLE, ``{'size': [H, W], 'counts': str}``, ready for JSON.

    Raises:
        ValueError: ``mask`` has another number of axes.
    """
    if mask.ndim != 2:
        raise ValueError(f'expected a mask (H, W), got shape {mask.shape}')
    rle = coco_mask.encode(np.asfortranarray(mask != 0).view(np.uint8))
    return {'size': list(rle['size']), 'counts': rle['counts'].decode('ascii')}


def decode_rle(rle: dict) -> np.ndarray:
    """Decode a COCO RLE to a bool mask (H, W)."""
    return coco_mask.decode(rle).astype(bool)


def merge_rles(rles: Sequence[dict], size: tuple[int, int]) -> dict:
    """Unite masks without decoding them.

    Args:
        rles: COCO RLEs, all of ``size``; may be empty.
        size: ``(H, W)``, the size of the result.

    Returns:
        COCO RLE of the union; an empty mask where ``rles`` is empty.
    """
    if not rles:
        return encode_mask(np.zeros(size, dtype=bool))
    merged = coco_mask.merge([_with_bytes(rle) for rle in rles]) if len(rles) > 1 else rles[0]
    counts = merged['counts']
    counts = counts.decode('ascii') if isinstance(counts, bytes) else counts
    return {'size': list(merged['size']), 'counts': counts}


def _with_bytes(rle: dict) -> dict:
    counts = rle['counts']
    return dict(rle, counts=counts.encode('ascii') if isinstance(counts, str) else counts)


def write_mask_png(path: str | PathLike, mask: np.ndarray) -> None:
    """Write a mask as the field's servers want it: a PNG of mode L with values 0 and 255.

    Args:
        path: the file to write; its folder exists.
        mask: bool (H, W).

    Raises:
        OSError: the file cannot be written.
    """
    ok, data = cv2.imencode('.png', mask.astype(np.uint8) * 255)
    if not ok:
        raise OSError(f'cannot encode a mask of shape {mask.shape} for {path}')
    with open(path, 'wb') as file:
        file.write(data.tobytes())
