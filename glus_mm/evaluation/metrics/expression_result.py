"""Figures of one expression of one video."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class ExpressionResult:
    """J and F of one expression, frame by frame.

    Attributes:
        dataset, video_id, exp_id: identify the expression.
        kind: kind of expression where the data set states one.
        has_target: whether objects are annotated for it; they need not be visible on any frame.
        region: J of each frame (T), 0..1.
        boundary: F of each frame (T), 0..1.
        predicted: whether anything was predicted on any frame.
        frames_without_seg: number of frames on which no ``[SEG]`` was generated; None if not known.
    """

    dataset: str
    video_id: str
    exp_id: str
    kind: str | None
    has_target: bool
    region: list[float]
    boundary: list[float]
    predicted: bool
    frames_without_seg: int | None = None

    @property
    def key(self) -> tuple[str, str, str]:
        """What identifies and orders expressions."""
        return self.dataset, self.video_id, self.exp_id

    @property
    def mean_region(self) -> float:
        """J, the mean over frames."""
        return float(np.mean(self.region))

    @property
    def mean_boundary(self) -> float:
        """F, the mean over frames."""
        return float(np.mean(self.boundary))
