"""A transform that stands among those of glus_mm."""

import numpy as np
from mmcv.transforms import BaseTransform

from example_project.registry import TRANSFORMS


@TRANSFORMS.register_module()
class JitterBrightness(BaseTransform):
    """Make a whole sample brighter or darker.

    Required keys: ``context_imgs``, ``query_imgs`` (lists of uint8 (H, W, 3)), ``rng``.
    Modified keys: both lists.

    Args:
        amount: the factor is drawn from 1 - amount to 1 + amount.
    """

    def __init__(self, amount: float = 0.2) -> None:
        if not 0 <= amount < 1:
            raise ValueError(f'expected an amount from 0 to below 1, got {amount}')
        self.amount = amount

    def transform(self, results: dict) -> dict:
        """Change the images; the draw comes from the sample's own generator."""
        factor = results['rng'].uniform(1 - self.amount, 1 + self.amount)
        for key in ('context_imgs', 'query_imgs'):
            results[key] = [np.clip(image * factor, 0, 255).astype(np.uint8)
                            for image in results[key]]
        return results
