"""F, the boundary accuracy of DAVIS, on bit-packed boundaries.

The textbook way dilates each boundary with a disk, byte by byte. Here both masks are cropped to
what they cover together, boundaries are packed into 64-bit words, and the disk is built of
horizontal runs: a row shift moves whole words and a column shift 64 pixels at once. Only counts of
pixels enter the result, so that it is equal to davis2017-evaluation to the last bit.
"""

from math import ceil, isqrt, sqrt

import cv2
import numpy as np

from glus_mm.evaluation.functional.mask_pair import as_binary_pair

_WORD = 64
_CORNER = np.ones((2, 2), dtype=np.uint8)


def boundary_accuracy(gt: np.ndarray, pred: np.ndarray, bound_th: float = 0.008) -> float:
    """F measure of the boundaries of two masks, with a tolerance of a few pixels.

    A pixel is on the boundary where it differs from its east, south or south-east neighbour.
    Precision is the share of the predicted boundary within the tolerance of the true one, recall
    the converse. A mask that fills the frame has no boundary.

    Args:
        gt: bool or uint8 (H, W); any nonzero pixel is foreground.
        pred: the same.
        bound_th: the tolerance; below 1 a share of the frame's diagonal (rounded up to whole
            pixels), otherwise a whole number of pixels.

    Returns:
        F in 0..1; 1 where neither mask has a boundary, 0 where only one has.

    Raises:
        TypeError: an input is neither a bool nor a uint8 array.
        ValueError: an input is not 2-D, the shapes differ, or ``bound_th`` is not positive, or is
            1 or more and not whole.

    Examples:
        >>> import numpy as np
        >>> boundary_accuracy(np.eye(8, dtype=bool), np.eye(8, dtype=bool))
        1.0
    """
    gt, pred = as_binary_pair(gt, pred)
    radius = _radius(gt.shape, bound_th)
    gt_boundary, pred_boundary = _boundaries(gt, pred)
    num_gt, num_pred = cv2.countNonZero(gt_boundary), cv2.countNonZero(pred_boundary)
    if num_gt == 0 or num_pred == 0:
        return float(num_gt == num_pred)
    packed = _pack(gt_boundary, pred_boundary)
    near = _dilate(packed, radius)
    recall = _count(packed[0] & near[1]) / num_gt
    precision = _count(packed[1] & near[0]) / num_pred
    if precision + recall == 0:
        return 0.0
    return 2 * precision * recall / (precision + recall)


def _radius(shape: tuple[int, int], bound_th: float) -> int:
    """Tolerance in pixels."""
    if not bound_th > 0 or (bound_th >= 1 and bound_th != int(bound_th)):
        raise ValueError('expected bound_th to be a share of the diagonal (0 < bound_th < 1) or a '
                         f'whole number of pixels, got {bound_th!r}')
    if bound_th >= 1:
        return int(bound_th)
    return ceil(bound_th * sqrt(shape[0]**2 + shape[1]**2))


def _boundaries(gt: np.ndarray, pred: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Boundaries, uint8 (h, w) of 0 and 1, of both masks inside the box that they cover.

    The box has a margin of one pixel, as a boundary can lie just north or west of its mask. At
    the frame's own border OpenCV leaves missing neighbours out of the minimum and maximum, which
    is the official rule for the last row and column.
    """
    x, y, w, h = cv2.boundingRect(cv2.bitwise_or(gt, pred))
    box = np.s_[max(y - 1, 0):y + h + 1, max(x - 1, 0):x + w + 1]
    return tuple(
        cv2.morphologyEx(mask[box], cv2.MORPH_GRADIENT, _CORNER, anchor=(0, 0))
        for mask in (gt, pred))


def _pack(*masks: np.ndarray) -> np.ndarray:
    """Pack K masks (h, w) of 0 and 1 into words (K, h, ceil(w / 64)); column c is bit c."""
    h, w = masks[0].shape
    packed = np.zeros((len(masks), h, ceil(w / _WORD) * _WORD // 8), dtype=np.uint8)
    for row, mask in zip(packed, masks):
        row[:, :ceil(w / 8)] = np.packbits(mask, axis=1, bitorder='little')
    return packed.view('<u8')


def _dilate(words: np.ndarray, radius: int) -> np.ndarray:
    """Dilate packed masks (K, h, words) with the disk dx^2 + dy^2 <= radius^2.

    What leaves the crop on any side is dropped; bits beyond the crop's width may be set.
    """
    out = words.copy()
    runs, width = words, 0
    for dy in range(radius, -1, -1):
        half = isqrt(radius * radius - dy * dy)
        while width < half:
            step = min(half - width, 2 * width + 1, _WORD - 1)
            runs = _spread(runs, step)
            width += step
        if dy < words.shape[1]:
            out[:, dy:] |= runs[:, :words.shape[1] - dy]
            out[:, :words.shape[1] - dy] |= runs[:, dy:]
    return out


def _spread(words: np.ndarray, step: int) -> np.ndarray:
    """Unite packed rows with themselves moved by ``step`` columns to either side."""
    left, back = np.uint64(step), np.uint64(_WORD - step)
    out = words << left
    out |= words >> left
    out |= words
    out[..., 1:] |= words[..., :-1] >> back
    out[..., :-1] |= words[..., 1:] << back
    return out


def _count(words: np.ndarray) -> int:
    """Number of bits that are set."""
    return int.from_bytes(words.tobytes(), 'little').bit_count()
