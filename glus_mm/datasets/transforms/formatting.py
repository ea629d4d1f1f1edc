"""From the results of the pipeline to what the data loader collates."""

from collections.abc import Sequence

import numpy as np
import torch
from mmcv.transforms import BaseTransform

from glus_mm.registry import TRANSFORMS
from glus_mm.structures import RefVOSDataSample


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
        for key in ('object_names', 'object_words', 'key_frame_ids', 'key_masks'):
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
