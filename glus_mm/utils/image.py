"""Reading an image and bringing it to the two encoders' sizes, for training and testing alike."""

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

from glus_mm.utils.checked import checked
from glus_mm.video import check_frame, read_image  # noqa: F401 - where they were before

VISION_CROPS = ('center', 'squash')


def vision_tower_image(image: np.ndarray, size: int, crop: str = 'center') -> np.ndarray:
    """Bring a frame to the vision tower's size.

    ``'center'`` is CLIP's own rule and the official behaviour: the shortest side becomes ``size``
    (PIL bicubic on uint8, which newer image processors do not reproduce), then the centre is cut
    out. ``'squash'`` keeps the whole frame and gives up its aspect ratio.

    Args:
        image: uint8 (H, W, 3).
        size: side P of the result.
        crop: ``'center'`` or ``'squash'``.

    Returns:
        uint8 (P, P, 3).

    Raises:
        ValueError: ``crop`` is unknown.
    """
    pil = Image.fromarray(image)
    checked(VISION_CROPS, crop=crop)
    if crop == 'squash':
        return np.asarray(pil.resize((size, size), Image.Resampling.BICUBIC))
    height, width = image.shape[:2]
    short, long = sorted((height, width))
    new_long = int(size * long / short)
    new_h, new_w = (size, new_long) if height <= width else (new_long, size)
    pil = pil.resize((new_w, new_h), Image.Resampling.BICUBIC)
    top, left = (new_h - size) // 2, (new_w - size) // 2
    return np.asarray(pil)[top:top + size, left:left + size]


def sam2_image(image: np.ndarray, size: int) -> torch.Tensor:
    """Bring a frame to SAM-2's size: bilinear with anti-aliasing, the aspect ratio is not kept.

    Args:
        image: uint8 (H, W, 3).
        size: side S of the result.

    Returns:
        float32 (3, S, S) in 0..1, not yet normalised.
    """
    tensor = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1).float().div_(255)
    if tensor.shape[1:] == (size, size):
        return tensor
    return F.interpolate(
        tensor[None], (size, size), mode='bilinear', align_corners=False, antialias=True)[0]
