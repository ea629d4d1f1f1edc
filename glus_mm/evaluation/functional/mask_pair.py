"""Input checks shared by the mask measures."""

import cv2
import numpy as np


def as_binary_pair(gt: np.ndarray, pred: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Check a pair of masks and bring both to one form.

    Args:
        gt: bool or uint8 (H, W); any nonzero pixel is foreground.
        pred: the same.

    Returns:
        Two uint8 arrays of 0 and 1, (H, W) or both transposed to (W, H): masks decoded from COCO
        RLE are stored column by column, and every measure here is symmetric in the two axes, so
        they are read in their order of storage. The arrays may share memory with the inputs.

    Raises:
        TypeError: an input is no numpy array, or neither bool nor uint8.
        ValueError: an input is not 2-D or has no pixel, or the shapes differ.
    """
    for name, mask in (('gt', gt), ('pred', pred)):
        if not isinstance(mask, np.ndarray):
            raise TypeError(f'expected {name} to be a numpy array, got {type(mask).__name__}')
        if mask.dtype not in (np.bool_, np.uint8):
            raise TypeError(f'expected {name} to be bool or uint8, got {mask.dtype}')
        if mask.ndim != 2 or mask.size == 0:
            raise ValueError(f'expected {name} to be a mask (H, W), got shape {mask.shape}')
    if gt.shape != pred.shape:
        raise ValueError(f'expected masks of one shape, got gt {gt.shape} and pred {pred.shape}')
    if gt.flags.f_contiguous and pred.flags.f_contiguous:
        gt, pred = gt.T, pred.T
    return _binary(gt), _binary(pred)


def _binary(mask: np.ndarray) -> np.ndarray:
    if mask.flags.f_contiguous and not mask.flags.c_contiguous:
        # NumPy would take ten times as long to turn columns into rows.
        mask = cv2.transpose(mask.T.view(np.uint8)).view(mask.dtype)
    mask = np.ascontiguousarray(mask)
    return (mask if mask.dtype == np.bool_ else mask != 0).view(np.uint8)
