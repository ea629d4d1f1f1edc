"""Bring the frames to the sizes of the two image encoders."""

import numpy as np
import torch
from mmcv.transforms import BaseTransform

from glus_mm.registry import TRANSFORMS
from glus_mm.utils.checked import checked
from glus_mm.utils.image import VISION_CROPS, sam2_image, vision_tower_image


@TRANSFORMS.register_module()
class ResizeForEncoders(BaseTransform):
    """Resize for the vision tower (all frames) and for SAM-2 (query frames).

    Required keys: ``context_imgs``, ``query_imgs``, ``context_frame_ids``, ``query_frame_ids``.
    Added keys: ``clip_imgs``, uint8 tensor (Tc+Tq, 3, P, P), context frames first; ``sam_imgs``,
    float32 tensor (Tq, 3, S, S) in 0..1, where Tq may be 0. Neither is normalised.

    Args:
        vision_size: side P of the vision tower's images, in pixels.
        sam_size: side S of SAM-2's images, in pixels; None makes none, for a model without SAM-2.
        vision_crop: ``'center'`` (official; the long side is cut) or ``'squash'``.

    Raises:
        ValueError: a size is not a positive integer, or ``vision_crop`` is unknown.
    """

    def __init__(self, vision_size: int, sam_size: int | None,
                 vision_crop: str = 'center') -> None:
        checked(1, vision_size=vision_size)
        if sam_size is not None:
            checked(1, sam_size=sam_size)
        checked(VISION_CROPS, vision_crop=vision_crop)
        self.vision_size = vision_size
        self.sam_size = sam_size
        self.vision_crop = vision_crop

    def transform(self, results: dict) -> dict:
        """Resize; see the class."""
        context_ids, query_ids = results['context_frame_ids'], results['query_frame_ids']
        query_imgs = dict(zip(query_ids, results['query_imgs']))
        images = dict(zip(context_ids, results['context_imgs'])) | query_imgs
        vision = {
            i: vision_tower_image(image, self.vision_size, self.vision_crop)
            for i, image in images.items()
        }
        clip_imgs = np.stack([vision[i] for i in (*context_ids, *query_ids)])
        results['clip_imgs'] = torch.from_numpy(clip_imgs).permute(0, 3, 1, 2).contiguous()
        if self.sam_size is not None:
            sam = {i: sam2_image(image, self.sam_size) for i, image in query_imgs.items()}
            side = self.sam_size
            results['sam_imgs'] = torch.stack([sam[i] for i in query_ids]) if query_ids else \
                torch.zeros(0, 3, side, side)
        return results
