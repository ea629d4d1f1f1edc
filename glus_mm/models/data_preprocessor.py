"""Normalise frames on the model's device, for training and inference alike."""

from collections.abc import Sequence

import torch
from mmengine.model import BaseDataPreprocessor
from torch import Tensor

from glus_mm.registry import MODELS


@MODELS.register_module()
class RefVOSDataPreprocessor(BaseDataPreprocessor):
    """Move a batch to the device and normalise the images of both encoders.

    The defaults are the constants of CLIP and of SAM-2 (ImageNet), for values in 0..1.

    Args:
        vision_mean: (3) of the vision tower.
        vision_std: (3) likewise.
        sam_mean: (3) of SAM-2.
        sam_std: (3) likewise.
    """

    def __init__(self,
                 vision_mean: Sequence[float] = (0.48145466, 0.4578275, 0.40821073),
                 vision_std: Sequence[float] = (0.26862954, 0.26130258, 0.27577711),
                 sam_mean: Sequence[float] = (0.485, 0.456, 0.406),
                 sam_std: Sequence[float] = (0.229, 0.224, 0.225)) -> None:
        super().__init__()
        for name, values in [('vision_mean', vision_mean), ('vision_std', vision_std),
                             ('sam_mean', sam_mean), ('sam_std', sam_std)]:
            if len(values) != 3:
                raise ValueError(f'{name} needs a value for each of R, G, B, got {values}')
            # Integers in a config must not make integer buffers: images are cast to their type.
            value = torch.tensor(values, dtype=torch.float32).view(3, 1, 1)
            self.register_buffer(name, value, persistent=False)

    def normalize_vision(self, imgs: Tensor) -> Tensor:
        """Normalise uint8 (..., 3, P, P) for the vision tower; returns floats."""
        imgs = imgs.to(self.vision_mean.device).to(self.vision_mean.dtype) / 255
        return (imgs - self.vision_mean) / self.vision_std

    def normalize_sam(self, imgs: Tensor) -> Tensor:
        """Normalise floats in 0..1 (..., 3, S, S) for SAM-2."""
        imgs = imgs.to(self.sam_mean.device).to(self.sam_mean.dtype)
        return (imgs - self.sam_mean) / self.sam_std

    def forward(self, data: dict, training: bool = False) -> dict:
        """Prepare a collated batch.

        Args:
            data: ``inputs`` and ``data_samples``; the inputs hold a list per key, one entry per
                video. Readers of test items pass through: their frames are normalised one by one
                with the methods above.
            training: not used, both phases are alike.

        Returns:
            The batch with ``clip_imgs``, ``sam_imgs`` normalised, all tensors on the device.
        """
        inputs = dict(data['inputs'])
        data_samples = self.cast_data(data['data_samples'])
        if 'clip_imgs' in inputs:
            inputs['clip_imgs'] = [self.normalize_vision(i) for i in inputs['clip_imgs']]
        if 'sam_imgs' in inputs:
            inputs['sam_imgs'] = [self.normalize_sam(i) for i in inputs['sam_imgs']]
        return dict(inputs=inputs, data_samples=data_samples)
