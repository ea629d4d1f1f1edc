"""Figures of one expression, or of one object, frame by frame."""

from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Track:
    """What is kept of one expression or object: some figures per frame, never masks.

    Attributes:
        dataset: name of the data set.
        video_id: the video.
        exp_id: the expression; the number of the object in the DAVIS protocols.
        values: by measure (``'J'``, ``'F'``, ...) one figure per frame (T).
        kind: kind of expression where the data set states one.
        has_target: whether objects are annotated for it; they need not be visible on any frame.
        predicted: whether anything was predicted on any frame.
        video_unpredicted: whether there was no prediction at all for the video, which the protocol
            scores 0.
        part: which of several evaluations it belongs to (``'anno_2'``), where there are several.
        notes: what else is listed with its figures.
        frames: what else is listed of its frames, and never averaged: lists (T) by name.
    """

    dataset: str
    video_id: str
    exp_id: str
    values: dict[str, list[float]]
    kind: str | None = None
    has_target: bool = True
    predicted: bool = True
    video_unpredicted: bool = False
    part: str | None = None
    notes: dict[str, str | float | int | None] = field(default_factory=dict)
    frames: dict[str, list[float]] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What identifies and orders tracks."""
        return self.dataset, self.video_id, self.exp_id, self.part or ''

    @property
    def name(self) -> str:
        """The key of the official scripts, ``<video>_<expression>``."""
        return f'{self.video_id}_{self.exp_id}'

    def mean(self, measure: str) -> float:
        """Mean of a measure over the frames."""
        return float(np.mean(self.values[measure]))
