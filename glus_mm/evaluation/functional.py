"""Measures of one predicted mask against one true mask."""

from math import ceil, isqrt, sqrt

import cv2
import numpy as np

__all__ = ['adaptive_boundary_accuracy', 'boundary_accuracy', 'region_similarity']
_WORD = 64
_LIMIT = 0.008


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


def region_similarity(gt: np.ndarray, pred: np.ndarray) -> float:
    """Intersection over union of two masks; equal to davis2017-evaluation to the last bit.

    Args:
        gt: bool or uint8 (H, W); any nonzero pixel is foreground.
        pred: the same.

    Returns:
        J in 0..1; 1 where both masks are empty.

    Raises:
        TypeError: an input is neither a bool nor a uint8 array.
        ValueError: an input is not 2-D, or the shapes differ.

    Examples:
        >>> import numpy as np
        >>> region_similarity(np.eye(2, dtype=bool), np.ones((2, 2), dtype=bool))
        0.5
    """
    gt, pred = as_binary_pair(gt, pred)
    both = cv2.countNonZero(cv2.bitwise_and(gt, pred))
    union = cv2.countNonZero(gt) + cv2.countNonZero(pred) - both
    return both / union if union else 1.0


_ONE = np.uint64(1)


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
    if not bound_th > 0 or (bound_th >= 1 and bound_th != int(bound_th)):
        raise ValueError('expected bound_th to be a share of the diagonal (0 < bound_th < 1) or a '
                         f'whole number of pixels, got {bound_th!r}')
    radius = int(bound_th) if bound_th >= 1 else ceil(
        bound_th * sqrt(gt.shape[0]**2 + gt.shape[1]**2))
    words, row = _pack_covered(gt, pred, radius)
    bounds = _boundaries(words, *row)
    num_gt, num_pred = _count(bounds)
    if num_gt == 0 or num_pred == 0:
        return float(num_gt == num_pred)
    near_pred, near_gt = _count(bounds & _dilate(bounds, row[0], radius)[::-1])
    recall, precision = near_pred / num_gt, near_gt / num_pred
    if precision + recall == 0:
        return 0.0
    return 2 * precision * recall / (precision + recall)


def _pack_covered(gt: np.ndarray, pred: np.ndarray,
                  radius: int) -> tuple[np.ndarray, tuple[int, int]]:
    """Pack the box that both masks cover together, with a margin of a pixel around it.

    The margin is there because a boundary can lie just north or west of its mask. Each row ends
    with at least ``radius`` unused bits: what moves beyond one end of a row gets lost there.

    Args:
        gt: uint8 (H, W) of 0 and 1.
        pred: the same.
        radius: the tolerance in pixels.

    Returns:
        Words uint64 (2, n), row after row, column c of a row in bit c % 64 of its word c // 64;
        and of a row the number of words and of columns.
    """
    x, y, w, h = cv2.boundingRect(cv2.bitwise_or(gt, pred))
    box = np.s_[max(y - 1, 0):y + h + 1, max(x - 1, 0):x + w + 1]
    h, w = gt[box].shape
    num_words = ceil((w + radius) / _WORD)
    packed = np.zeros((2, h, num_words * _WORD // 8), dtype=np.uint8)
    for rows, mask in zip(packed, (gt, pred)):
        rows[:, :ceil(w / 8)] = np.packbits(mask[box], axis=1, bitorder='little')
    return packed.view('<u8').reshape(2, -1), (num_words, w)


def _boundaries(words: np.ndarray, num_words: int, width: int) -> np.ndarray:
    """Where a pixel differs from its east, south or south-east neighbour, packed alike.

    A neighbour that is missing at the end of a row or column is like the pixel itself: the
    official rule at the frame's border, and inside the frame there is only the empty margin.
    """
    east = words >> _ONE
    carry = words << np.uint64(_WORD - 1)
    carry[:, ::num_words] = 0
    east[:, :-1] |= carry[:, 1:]
    last = np.s_[:, (width - 1) // _WORD::num_words]
    east[last] |= words[last] & (_ONE << np.uint64((width - 1) % _WORD))
    bounds = words ^ east
    either, both = words | east, words & east
    n = words.shape[1] - num_words
    # One of the four differs: not all are set, but some are.
    bounds[:, :n] = (either[:, :n] | either[:, num_words:]) & ~(both[:, :n] & both[:, num_words:])
    return bounds


def _dilate(words: np.ndarray, num_words: int, radius: int) -> np.ndarray:
    """Dilate two packed masks (2, n) with the disk dx^2 + dy^2 <= radius^2.

    What leaves the crop on any side is dropped; unused bits may be set. Both masks lie in one
    stream, ``radius`` empty rows apart: NumPy's cost per call counts more than the words.
    """
    n = words.shape[1]
    stream = np.zeros(2 * n + radius * num_words, dtype=words.dtype)
    stream[:n], stream[-n:] = words
    out, runs, width, spare = stream.copy(), stream, 0, np.empty_like(stream)
    for dy in range(radius, -1, -1):
        half = isqrt(radius * radius - dy * dy)
        while width < half:
            step = min(half - width, 2 * width + 1, _WORD - 1)
            runs = _spread(runs, step, spare)
            width += step
        shift = dy * num_words
        out[shift:] |= runs[:len(runs) - shift]
        out[:len(runs) - shift] |= runs[shift:]
    return np.stack((out[:n], out[-n:]))


def _spread(words: np.ndarray, step: int, spare: np.ndarray) -> np.ndarray:
    """Unite packed rows (n,) with themselves moved by ``step`` columns to either side.

    Args:
        words: the rows, one after the other.
        step: 1..63.
        spare: an array like ``words``, for intermediate results.

    Returns:
        An array like ``words``.
    """
    step, back = np.uint64(step), np.uint64(_WORD - step)
    out = words << step
    out |= words
    out |= np.right_shift(words, step, out=spare)
    out[1:] |= np.right_shift(words, back, out=spare)[:-1]
    out[:-1] |= np.left_shift(words, back, out=spare)[1:]
    return out


def _count(words: np.ndarray) -> list[int]:
    """Number of bits that are set in each row."""
    if hasattr(np, 'bitwise_count'):
        return np.bitwise_count(words).sum(axis=1, dtype=np.int64).tolist()
    return [int.from_bytes(row.tobytes(), 'little').bit_count() for row in words]


SHARE = 0.1
"""Tolerance of F-dot, as a share of the square root of the object's area."""


def adaptive_boundary_accuracy(gt: np.ndarray, pred: np.ndarray) -> tuple[float, float]:
    """F and F-dot, as the evaluation of MOSEv2 computes them, to the last bit.

    F-dot is F with a tolerance that shrinks with the object: min(0.008 x diagonal of the frame,
    0.1 x square root of the true area, rounded up). This is ``f_measure_adaptive`` of
    https://github.com/henghuiding/MOSE-api, MOSEv2/sam2_rcms/tools/metricsv2.py. Where the object
    is so large that the first of the two counts, its tolerance is not rounded up, for F neither,
    and the disk around a pixel, ``skimage.morphology.disk`` of a fraction, lies beside it: this is
    kept.

    Args:
        gt: bool or uint8 (H, W); any nonzero pixel is foreground.
        pred: the same.

    Returns:
        F and F-dot, 0..1.

    Raises:
        TypeError: an input is neither a bool nor a uint8 array.
        ValueError: an input is not 2-D, or the shapes differ.
    """
    gt, pred = as_binary_pair(gt, pred)
    diagonal = sqrt(gt.shape[0]**2 + gt.shape[1]**2)
    limit = _LIMIT * diagonal
    # Without an object no tolerance changes anything.
    tolerance = ceil(SHARE * sqrt(cv2.countNonZero(gt) or diagonal**2))
    if tolerance < limit:
        return boundary_accuracy(gt, pred), boundary_accuracy(gt, pred, tolerance)
    # ``skimage.morphology.disk``, which has its centre off the middle for a fraction.
    line = np.arange(-limit, limit + 1)
    both = _plain(gt, pred, (line[:, None]**2 + line**2 <= limit**2).astype(np.uint8))
    return both, both


def _plain(gt: np.ndarray, pred: np.ndarray, disk: np.ndarray) -> float:
    """F of two masks of 0 and 1, with any structuring element, on the box that they cover."""
    x, y, w, h = cv2.boundingRect(cv2.bitwise_or(gt, pred))
    # A boundary can lie just north or west of its mask.
    box = np.s_[max(y - 1, 0):y + h + 1, max(x - 1, 0):x + w + 1]
    bounds = [_boundary(mask, box) for mask in (gt, pred)]
    num_gt, num_pred = map(cv2.countNonZero, bounds)
    if num_gt == 0 or num_pred == 0:
        return float(num_gt == num_pred)
    near_gt, near_pred = (cv2.dilate(bound, disk) for bound in bounds)
    recall = cv2.countNonZero(bounds[0] & near_pred) / num_gt
    precision = cv2.countNonZero(bounds[1] & near_gt) / num_pred
    if precision + recall == 0:
        return 0.0
    return 2 * precision * recall / (precision + recall)


def _boundary(mask: np.ndarray, box: tuple[slice, slice]) -> np.ndarray:
    """Where a pixel differs from its east, south or south-east neighbour, uint8 (h, w)."""
    crop = cv2.copyMakeBorder(np.ascontiguousarray(mask[box]), 0, 1, 0, 1, cv2.BORDER_REPLICATE)
    corners = crop[:-1, :-1], crop[:-1, 1:], crop[1:, :-1], crop[1:, 1:]
    return np.maximum.reduce(corners) - np.minimum.reduce(corners)
