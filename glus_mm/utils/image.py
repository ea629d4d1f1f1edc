"""Reading an image and bringing it to the two encoders' sizes, for training and testing alike."""

from os import PathLike

import cv2
import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

VISION_CROPS = ('center', 'squash')


def read_image(path: str | PathLike) -> np.ndarray:
    """Decode an image file.

    Args:
        path: a JPEG or PNG file; the content decides, not the suffix.

    Returns:
        uint8 (H, W, 3) in RGB.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not an image that can be decoded.
    """
    try:
        data = np.fromfile(path, dtype=np.uint8)
    except OSError as error:
        raise FileNotFoundError(
            f'expected an image file, but cannot read {path}: {error}') from error
    image = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    if image is None:
        raise ValueError(
            f'expected an image file, but {path} ({data.size} bytes) cannot be decoded')
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def check_frame(frame: np.ndarray, where: str) -> np.ndarray:
    """Return ``frame`` if it is a uint8 RGB image (H, W, 3), else raise a ``ValueError``."""
    if not isinstance(frame, np.ndarray) or frame.dtype != np.uint8 or frame.ndim != 3 or \
            frame.shape[2] != 3 or 0 in frame.shape:
        got = f'{frame.dtype} {frame.shape}' if isinstance(frame, np.ndarray) else type(frame)
        raise ValueError(f'{where}: expected an RGB frame, uint8 (H, W, 3), got {got}')
    return frame


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
    if crop == 'squash':
        return np.asarray(pil.resize((size, size), Image.Resampling.BICUBIC))
    if crop != 'center':
        raise ValueError(f'crop must be one of {VISION_CROPS}, got {crop!r}')
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
