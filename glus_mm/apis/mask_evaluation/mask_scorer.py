"""What scores predictions from files, one job at a time."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import NamedTuple

from glus_mm.evaluation.predictions import PredictionSource
from glus_mm.evaluation.protocols import BaseProtocol, Track

MISSING_POLICIES = ('error', 'empty', 'skip')


class Scored(NamedTuple):
    """Figures of one job.

    Attributes:
        tracks: of its expression, or of the objects of its sequence.
        num_frames: number of frames that were scored.
        grey_frames: number of them whose values are more than background and one other.
    """

    tracks: list[Track]
    num_frames: int
    grey_frames: int = 0


class MaskScorer(ABC):
    """Scores predictions from files; a job is an expression or a sequence.

    It holds the annotation and knows which files are missing, so that jobs can be scored in any
    order, and in several processes.

    Args:
        protocol: what is measured.
        source: the predictions; each of its folders is that of a job.
        missing: ``'error'``, ``'empty'`` or ``'skip'``.

    Raises:
        FileNotFoundError: a prediction is missing, and that is an error.
        ValueError: the tree holds what it should not, or nothing is left to score.
    """

    def __init__(self, protocol: BaseProtocol, source: PredictionSource, missing: str) -> None:
        self.protocol = protocol
        self.missing = missing
        self.source = source
        self.folders = source.folders
        self.scan = source.scan()
        if self.scan.missing and missing == 'error':
            raise FileNotFoundError(self._describe_missing())
        skipped = set(self.scan.missing) if missing == 'skip' else set()
        self.jobs = [job for job in range(len(self.folders)) if job not in skipped]
        if not self.jobs:
            raise ValueError(f'{source.root}: expected predictions of at least one '
                             f'{protocol.unit} to score, got none: all {len(self.folders)} '
                             'folders lack masks, and those are skipped')

    def __len__(self) -> int:
        """Number of jobs."""
        return len(self.jobs)

    @abstractmethod
    def num_frames(self, job: int) -> int:
        """Number of frames that a job scores."""

    @abstractmethod
    def score(self, job: int) -> Scored:
        """Score one job.

        Raises:
            OSError: a file cannot be read.
            ValueError: a file is not as it should be; names file, video, expression and frame.
        """

    def is_missing(self, position: int, frame: str) -> bool:
        """Tell whether a frame of a folder has no file."""
        return frame in self.scan.missing.get(position, ())

    def notes(self) -> dict:
        """What was missing, and how it counts; what was there beyond what was asked for."""
        frames = {'/'.join(self.folders[position].parts): len(missing)
                  for position, missing in self.scan.missing.items()}
        return {'missing': {'policy': self.missing, 'frames': frames},
                'not_asked_for': self.scan.extra}

    def _describe_missing(self) -> str:
        position, frames = next(iter(self.scan.missing.items()))
        folder = self.folders[position]
        total = sum(map(len, self.scan.missing.values()))
        place = self.source.place(position, frames[0])
        text = (f'{place}: expected a predicted mask for '
                f'{folder.where}, frame {frames[0]!r}, got nothing there (masks missing in all: '
                f'{total}, in folders: {len(self.scan.missing)}; missing=empty or skip says how to '
                'count them)')
        above = Path(place).parents
        extra = [self.source.root / name for name in self.scan.extra]
        beside = [path for path in extra if path.parent in above]
        return text + (f'; nobody asked for {beside[0]}' if beside else '')

