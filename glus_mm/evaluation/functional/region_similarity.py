"""J, the region similarity of DAVIS."""

import cv2
import numpy as np

from glus_mm.evaluation.functional.mask_pair import as_binary_pair


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
