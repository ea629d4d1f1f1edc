"""How far two runs agree."""

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from inference_benchmark.runs import Outcome

SEG_TOLERANCE = 1e-4
PIXEL_TOLERANCE = 1e-4
LOGIT_TOLERANCE = 1e-3
MARGIN = 1e-4
STABLE = 0.98
"""The threshold of SAM-2 below which it takes another mask token."""


@dataclass(frozen=True)
class Agreement:
    """What differs between two runs, where both have outcomes.

    Attributes:
        masks: number that was compared.
        pixels: of them all.
        different: pixels that differ.
        max_logit: the largest |logit| of a pixel that differs.
        max_seg: the largest difference of a seg embedding.
        max_low_res: the largest difference of low-resolution logits.
        other_seg: masks where only one run has a ``[SEG]``.
        close: (expression, frame) whose ``[SEG]`` or stability margin is below ``MARGIN``.
    """

    masks: int
    pixels: int
    different: int
    max_logit: float
    max_seg: float
    max_low_res: float
    other_seg: int
    close: list[tuple[int, int]]

    @classmethod
    def of(cls, ours: dict[tuple[int, int], Outcome], other: dict[tuple[int, int], Outcome]
           ) -> 'Agreement':
        """Compare outcomes by (expression, frame)."""
        keys = sorted(set(ours) & set(other))
        different, pixels, max_logit, max_seg, max_low_res, other_seg = 0, 0, 0.0, 0.0, 0.0, 0
        close = []
        for key in keys:
            a, b = ours[key], other[key]
            wrong = a.mask != b.mask
            pixels += wrong.size
            different += int(wrong.sum())
            if wrong.any() and a.is_seg and b.is_seg:
                max_logit = max(max_logit, float(np.abs(_full(a)[wrong]).max()))
            max_seg = max(max_seg, float(np.abs(a.seg_token - b.seg_token).max()))
            if a.is_seg and b.is_seg:
                max_low_res = max(max_low_res, float(np.abs(a.low_res - b.low_res).max()))
            other_seg += a.is_seg != b.is_seg
            if any(abs(o.margin) < MARGIN or
                   (o.stability is not None and abs(o.stability - STABLE) < MARGIN)
                   for o in (a, b)):
                close.append(key)
        return cls(len(keys), pixels, different, max_logit, max_seg, max_low_res, other_seg, close)

    def holds(self, exactly: bool = False) -> bool:
        """Whether the runs agree as they must.

        Args:
            exactly: masks have to be identical, as in float64 at the tiny size.
        """
        if exactly:
            return self.masks > 0 and self.different == 0 and self.other_seg == 0
        return (self.masks > 0 and self.other_seg == 0 and self.max_seg <= SEG_TOLERANCE
                and self.different <= PIXEL_TOLERANCE * self.pixels
                and self.max_logit < LOGIT_TOLERANCE)

    def lines(self) -> list[str]:
        """In words."""
        return [
            f'masks compared {self.masks}: {self.different} of {self.pixels} pixels differ '
            f'({self.different / max(self.pixels, 1):.1e}), the largest |logit| there '
            f'{self.max_logit:.1e}',
            f'seg embeddings differ by at most {self.max_seg:.1e}, low-resolution logits by '
            f'{self.max_low_res:.1e}; [SEG] on one side only: {self.other_seg}',
            f'steps with a [SEG] or stability margin below {MARGIN:g}: '
            f'{", ".join(map(str, self.close)) or "none"}',
        ]


def _full(outcome: Outcome) -> np.ndarray:
    """Logits at the size of the video."""
    logits = torch.from_numpy(outcome.low_res)[None, None]
    return F.interpolate(
        logits, outcome.mask.shape, mode='bilinear', align_corners=False)[0, 0].numpy()
