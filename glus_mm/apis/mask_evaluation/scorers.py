"""Scores predictions from files, one job at a time."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from os import PathLike
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from glus_mm.apis.mask_evaluation.annotated_expressions import open_expressions
from glus_mm.evaluation.davis_annotations import DAVISAnnotations, MOSEAnnotations
from glus_mm.evaluation.predictions import (
    FrameFolder,
    PredictionSource,
    PredictionTree,
    open_predictions,
)
from glus_mm.evaluation.protocols import (
    BaseProtocol,
    ExpressionFrame,
    ExpressionProtocol,
    LabelFrame,
    MOSEv2Protocol,
    ObjectProtocol,
    RefDAVISProtocol,
    Track,
)
from glus_mm.evaluation.protocols.object_protocol import ANNOTATORS, ObjectScore

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
        place = self.source.locate(position, frames[0])
        text = (f'{place}: expected a predicted mask for '
                f'{folder.where}, frame {frames[0]!r}, got nothing there (masks missing in all: '
                f'{total}, in folders: {len(self.scan.missing)}; missing=empty or skip says how to '
                'count them)')
        above = Path(place).parents
        extra = [self.source.root / name for name in self.scan.extra]
        beside = [path for path in extra if path.parent in above]
        return text + (f'; nobody asked for {beside[0]}' if beside else '')


class ExpressionScorer(MaskScorer):
    """Scores one mask per expression and frame; a job is an expression.

    Args:
        protocol: what is measured.
        ann_root: the folder with the annotation.
        pred_dir: the folder, or file, with the predictions.
        missing, extra: see :class:`MaskScorer`.
        pred_values: what foreground pixels are said to be worth, 255 or 1; None = nothing is said,
            which is 255 where it matters. Files with the highest value 1 contradict 255; where 1
            is said, any value but 0 counts as 1.
        pred_format: one of :data:`glus_mm.evaluation.predictions.PREDICTION_FORMATS`.

    Raises:
        OSError: a file is missing or cannot be read.
        ValueError: a file or folder is not as it should be.
    """

    def __init__(self, protocol: ExpressionProtocol, ann_root: str | PathLike,
                 pred_dir: str | PathLike, missing: str = 'error', extra: str = 'warn',
                 pred_values: int | None = None, pred_format: str = 'png') -> None:
        self.annotation = open_expressions(protocol.name, ann_root)
        if pred_values is None and protocol.needs_foreground:
            pred_values = 255
        self.pred_values = pred_values
        self.items = [(video, expression) for video in self.annotation.videos
                      for expression in video['expressions']]
        folders = expression_folders(self.items)
        super().__init__(protocol, open_predictions(pred_format, pred_dir, folders, extra), missing)
        self.unpredicted = self._unpredicted_videos()

    def num_frames(self, job: int) -> int:
        """All frames of the video; see the base class."""
        return len(self.folders[self.jobs[job]].frames)

    def score(self, job: int) -> Scored:
        """Score one expression; see the base class."""
        position = self.jobs[job]
        video, expression = self.items[position]
        grey: list[int] = []
        unpredicted = video['video_id'] in self.unpredicted
        if unpredicted:
            zeros = [0.0] * self.num_frames(job)
            values, predicted = dict.fromkeys(self.protocol.measures, zeros), False
        else:
            values, predicted = self.protocol.score(self._frames(position, grey))
        track = Track(self.annotation.dataset, video['video_id'], expression['exp_id'], values,
                      expression['kind'], bool(expression['object_ids']), predicted, unpredicted)
        return Scored([track], self.num_frames(job), len(grey))

    def notes(self) -> dict:
        """Add what foreground pixels are worth, where it matters; see the base class."""
        notes = super().notes()
        if self.source.format != 'png':
            notes['pred_format'] = self.source.format
        if self.protocol.needs_foreground:
            notes['pred_values'] = self.pred_values
        if self.unpredicted:
            notes['scored_zero'] = sorted(self.unpredicted)
        return notes

    def _unpredicted_videos(self) -> set[str]:
        """Videos without any mask, where the protocol scores them 0."""
        if self.missing != 'empty' or not self.protocol.unpredicted_video_is_zero:
            return set()
        missing = {position for position, frames in self.scan.missing.items()
                   if len(frames) == len(self.folders[position].frames)}
        found = {self.items[position][0]['video_id'] for position in range(len(self.items))
                 if position not in missing}
        return {video['video_id'] for video, _ in self.items} - found

    def _frames(self, position: int, grey: list[int]) -> Iterator[ExpressionFrame]:
        """Read the masks of an expression, frame by frame.

        Args:
            position: of the expression.
            grey: gets the positions of frames with more values than two.
        """
        video, expression = self.items[position]
        size = self._size(position)
        for t, frame in enumerate(video['frame_names']):
            gt = self.annotation.target(video, expression, t, size)
            if self.is_missing(position, frame):
                pred = np.zeros(size, dtype=np.uint8)
            else:
                pred = self._read(position, frame, size)
                if _is_grey(pred):
                    grey.append(t)
            foreground = None
            if self.protocol.needs_foreground:
                foreground = self.annotation.foreground(video, t, size)
            yield ExpressionFrame(gt, pred, foreground)

    def _read(self, position: int, frame: str, size: tuple[int, int]) -> np.ndarray:
        pred = self.source.read(position, frame, size)
        if self.pred_values == 255 and cv2.minMaxLoc(pred)[1] == 1:
            where = f'{self.folders[position].where}, frame {frame!r}'
            raise ValueError(f'{self.source.locate(position, frame)}: expected foreground pixels '
                             f'of value 255 for {where}, as pred_values says, got the highest '
                             'value 1; pred_values=1 is for such masks')
        return pred

    def _size(self, position: int) -> tuple[int, int]:
        """Size of the masks: that of the annotation; where it states none, of a prediction."""
        video, _ = self.items[position]
        size = self.annotation.size(video)
        if size is not None:
            return size
        for other, (owner, _) in enumerate(self.items):
            for frame in self.folders[other].frames if owner is video else ():
                if not self.is_missing(other, frame):
                    size = self.source.size(other, frame)
                    if size is not None:
                        return size
        # No mask anywhere, neither true nor predicted: all are empty, and any size will do.
        return 1, 1


def _is_grey(pred: np.ndarray) -> bool:
    """Tell whether a mask has more than two values."""
    highest = int(cv2.minMaxLoc(pred)[1])
    return cv2.countNonZero(pred) != cv2.countNonZero(cv2.compare(pred, highest, cv2.CMP_EQ)) \
        if highest else False


def expression_folders(items: Sequence[tuple[dict, dict]]) -> list[FrameFolder]:
    """Where the predictions of expressions should be.

    Args:
        items: videos with one of their expressions, as the data sets have them.
    """
    return [FrameFolder((*video['video_id'].split('/'), expression['exp_id']),
                        video['frame_names'],
                        f'video {video["video_id"]!r}, expression {expression["exp_id"]!r}',
                        objects=expression['object_ids']) for video, expression in items]


class SequenceScorer(MaskScorer):
    """Scores ``<sequence>/<frame>.png``, or ``anno_<a>/<sequence>/<frame>.png``.

    A job is a sequence, once for each annotation of Ref-DAVIS17.

    Args:
        protocol: what is measured.
        ann_root: the folder with DAVIS 2017, or MOSE.
        pred_dir: the folder with the predictions.
        missing, extra: see :class:`MaskScorer`.

    Raises:
        OSError: a file is missing or cannot be read.
        ValueError: a file or folder is not as it should be.
    """

    def __init__(self, protocol: ObjectProtocol, ann_root: str | PathLike,
                 pred_dir: str | PathLike, missing: str = 'error', extra: str = 'warn') -> None:
        self.mose = isinstance(protocol, MOSEv2Protocol)
        self.annotation = MOSEAnnotations(ann_root) if self.mose else DAVISAnnotations(
            ann_root, protocol.annotation_folder)
        several = isinstance(protocol, RefDAVISProtocol)
        self.items = [(part, sequence) for part in (ANNOTATORS if several else (None, ))
                      for sequence in self.annotation.frames]
        folders = []
        for part, sequence in self.items:
            frames = self.annotation.frames[sequence]
            needed = tuple(frames[t] for t in protocol.frames_to_score(len(frames)))
            if not needed:
                raise ValueError(f'{ann_root}: expected more than {len(frames)} frames of sequence '
                                 f'{sequence!r}, of which {protocol.name} scores none')
            where = f'sequence {sequence!r}' if part is None else f'{part}, sequence {sequence!r}'
            folders.append(FrameFolder((part, sequence) if part else (sequence, ), needed, where,
                                       allowed=frames))
        source = PredictionTree(pred_dir, folders, siblings_alike=False, closed=several,
                                extra=extra, modes=('P', 'L'))
        super().__init__(protocol, source, missing)

    def num_frames(self, job: int) -> int:
        """The frames that count; see the base class."""
        return len(self.folders[self.jobs[job]].frames)

    def score(self, job: int) -> Scored:
        """Score one sequence; see the base class."""
        position = self.jobs[job]
        part, sequence = self.items[position]
        objects = self.annotation.objects(sequence)
        zeros = [0.0] * self.num_frames(job)
        unpredicted = self.unpredicted(position)
        if unpredicted:
            scores = [ObjectScore(number, dict.fromkeys(self.protocol.measures, zeros), {})
                      for number in objects]
        else:
            scores = self.protocol.score(self._frames(position, max(objects)), max(objects))
        tracks = [Track('mose_v2' if self.mose else 'davis', sequence, str(score.number),
                        score.values, video_unpredicted=unpredicted, part=part, notes=score.notes)
                  for score in scores if score.number in objects]
        return Scored(tracks, self.num_frames(job))

    def notes(self) -> dict:
        """Add which videos are scored 0; see the base class."""
        zero = [sequence for position, (_, sequence) in enumerate(self.items)
                if self.unpredicted(position)]
        return dict(super().notes(), **({'scored_zero': zero} if zero else {}))

    def unpredicted(self, position: int) -> bool:
        """Tell whether a sequence has no mask at all, and the protocol scores it 0."""
        return (self.missing == 'empty' and self.protocol.unpredicted_video_is_zero
                and len(self.scan.missing.get(position, ())) == len(self.folders[position].frames))

    def _frames(self, position: int, num_objects: int) -> Iterator[LabelFrame]:
        """Read the label maps of a sequence, frame by frame."""
        _, sequence = self.items[position]
        folder = self.folders[position]
        size = self.annotation.size(sequence)
        limit = self.protocol.max_label(num_objects)
        for frame in folder.frames:
            gt = self.annotation.labels(sequence, frame, size)
            if self.is_missing(position, frame):
                pred = np.zeros(size, dtype=np.uint8)
            else:
                pred = self.source.read(position, frame, size)
                if pred.max() > limit:
                    raise ValueError(f'{self.source.locate(position, frame)}: expected numbers of '
                                     f'objects up to {limit} for {folder.where}, frame {frame!r}, '
                                     f'got {pred.max()}')
            yield LabelFrame(gt, pred)
