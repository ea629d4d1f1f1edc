"""What scores predictions from files, one job at a time."""

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import NamedTuple

from glus_mm.evaluation.predictions import FrameFolder, PredictionTree
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
        pred_dir: the folder with the predictions.
        folders: where the predictions of each job should be.
        missing: ``'error'``, ``'empty'`` or ``'skip'``.
        extra: see :class:`PredictionTree`.
        siblings_alike: likewise.
        closed: likewise.

    Raises:
        FileNotFoundError: a prediction is missing, and that is an error.
        ValueError: the tree holds what it should not, or nothing is left to score.
    """

    def __init__(self, protocol: BaseProtocol, pred_dir: str | PathLike,
                 folders: Sequence[FrameFolder], missing: str, extra: str,
                 siblings_alike: bool = True, closed: bool = False) -> None:
        self.protocol = protocol
        self.missing = missing
        self.folders = list(folders)
        self.tree = PredictionTree(pred_dir, folders, siblings_alike, closed, extra)
        self.scan = self.tree.scan()
        if self.scan.missing and missing == 'error':
            raise FileNotFoundError(self._describe_missing())
        skipped = set(self.scan.missing) if missing == 'skip' else set()
        self.jobs = [job for job in range(len(self.folders)) if job not in skipped]
        if not self.jobs:
            raise ValueError(f'{pred_dir}: expected predictions of at least one {protocol.unit} to '
                             f'score, got none: all {len(self.folders)} folders lack masks, and '
                             'those are skipped')

    def __len__(self) -> int:
        """Number of jobs."""
        return len(self.jobs)

    @abstractmethod
    def num_frames(self, job: int) -> int:
        """Number of frames that a job scores.

        Args:
            job: its position.

        Returns:
            The number.
        """

    @abstractmethod
    def score(self, job: int) -> Scored:
        """Score one job.

        Args:
            job: its position.

        Returns:
            Its figures.

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
                'not_asked_for': [os.path.relpath(path, self.tree.root).replace(os.sep, '/')
                                  for path in self.scan.extra]}

    def _describe_missing(self) -> str:
        position, frames = next(iter(self.scan.missing.items()))
        folder = self.folders[position]
        total = sum(map(len, self.scan.missing.values()))
        text = (f'{self.tree.path(folder, frames[0])}: expected a predicted mask for '
                f'{folder.where}, frame {frames[0]!r}, got nothing there (masks missing in all: '
                f'{total}, in folders: {len(self.scan.missing)}; missing=empty or skip says how to '
                'count them)')
        above = self.tree.path(folder, frames[0]).parents
        beside = [path for path in self.scan.extra if Path(path).parent in above]
        return text + (f'; nobody asked for {beside[0]}' if beside else '')

