"""State of one text of a live source."""

from dataclasses import dataclass, field
from typing import Any

from glus_mm.models.heads.memory_bank import MemoryBank


@dataclass
class LiveTrack:
    """One text of a live source.

    Attributes:
        text: the referring expression.
        start: the first frame that it is segmented on.
        memory: its memory bank.
        kept: with ``window_cache='turns'`` what the MLLM keeps of the turns so far.
        answers: see :class:`Track`; at most as many as the window.
    """

    text: str
    start: int
    memory: MemoryBank
    kept: Any = None
    answers: list[bool] = field(default_factory=list)
