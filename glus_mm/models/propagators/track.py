"""One expression on its way through a video or a live source."""

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from glus_mm.models.heads import MemoryBank


@dataclass
class Track:
    """State of one expression in one sweep over the frames.

    Attributes:
        expression: its position among those of the session.
        text: what it says.
        start: the frame where it starts.
        memory: what was stored of the frames so far.
        step: number of frames that are done.
        tokens: of frames to come: seg token (C), whether it is a ``[SEG]``, and its probability.
        answers: whether ``[SEG]`` was the answer on the frames that have a token, the newest last,
            at most as many as the window; only with ``model.existence='answer'``, where it is the
            history.
        kept: with ``window_cache='turns'`` what the MLLM keeps of the turns so far.
    """

    expression: int
    text: str
    start: int
    memory: MemoryBank
    step: int = 0
    tokens: deque[tuple[Tensor, Tensor, Tensor]] = field(default_factory=deque)
    answers: list[bool] = field(default_factory=list)
    kept: Any = None
