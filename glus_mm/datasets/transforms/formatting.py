"""From frames to the inputs of the encoders, packed for the model."""

from collections.abc import Sequence

import numpy as np
import torch
from mmcv.transforms import BaseTransform

from glus_mm.registry import TRANSFORMS
from glus_mm.structures import RefVOSDataSample
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


@TRANSFORMS.register_module()
class PackRefVOSInputs(BaseTransform):
    """Pack a sample as ``dict(inputs=dict(...), data_samples=RefVOSDataSample)``.

    ``inputs`` of a training sample: ``clip_imgs`` uint8 (Tc+Tq, 3, P, P), ``sam_imgs`` float32
    (Tq, 3, S, S) where there are some, ``input_ids`` and ``labels``: object arrays (E,) of int64
    arrays (L,). Object arrays and not lists, because mmengine's ``pseudo_collate`` transposes lists
    and refuses those of unequal length, whereas videos differ in E. After it, each input is a list
    (B).

    ``inputs`` of a test sample: ``reader``, a ``FrameReader``.
    """

    def transform(self, results: dict) -> dict:
        """Pack; see the class."""
        expressions = results['expressions']
        sample = RefVOSDataSample(metainfo=dict(
            dataset=results['dataset'],
            video_id=results['video_id'],
            exp_ids=tuple(item['exp_id'] for item in expressions),
            expressions=tuple(item['exp'] for item in expressions),
            object_ids=tuple(tuple(item['object_ids']) for item in expressions),
            kinds=tuple(item['kind'] for item in expressions),
            context_frame_ids=list(results['context_frame_ids']),
            query_frame_ids=list(results['query_frame_ids']),
            frame_names=tuple(results['frame_names']),
            ori_shape=tuple(results['ori_shape'])))
        if 'gt_masks' in results:
            sample.gt_masks = torch.from_numpy(results['gt_masks'])
        if 'gt_rles' in results:
            sample.gt_rles = results['gt_rles']
        for key in ('gt_scores', 'object_cells', 'object_centres', 'object_sizes', 'object_lit'):
            if key in results:
                sample.set_data({key: torch.from_numpy(results[key])})
        for key in ('object_names', 'object_words', 'key_frames', 'key_frame_ids', 'key_masks'):
            if key in results:
                sample.set_data({key: results[key]})
        if 'reader' in results:
            inputs = dict(reader=results['reader'])
        else:
            inputs = dict(
                clip_imgs=results['clip_imgs'],
                input_ids=_object_array(results['input_ids']),
                labels=_object_array(results['labels']))
            if 'sam_imgs' in results:
                inputs['sam_imgs'] = results['sam_imgs']
        return dict(inputs=inputs, data_samples=sample)


def _object_array(items: Sequence[np.ndarray]) -> np.ndarray:
    array = np.empty(len(items), dtype=object)
    for i, item in enumerate(items):
        array[i] = item
    return array
