"""F and F-dot, the boundary accuracies of MOSEv2."""

from math import ceil, sqrt

import cv2
import numpy as np

from glus_mm.evaluation.functional.boundary_accuracy import boundary_accuracy
from glus_mm.evaluation.functional.mask_pair import as_binary_pair

SHARE = 0.1
"""Tolerance of F-dot, as a share of the square root of the object's area."""
_LIMIT = 0.008


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
    both = _plain(gt, pred, _disk(limit))
    return both, both


def _disk(radius: float) -> np.ndarray:
    """``skimage.morphology.disk``, which has its centre off the middle for a fraction."""
    line = np.arange(-radius, radius + 1)
    return (line[:, None]**2 + line**2 <= radius**2).astype(np.uint8)


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
