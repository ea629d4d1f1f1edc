"""Evaluation of masks that any system wrote, from files."""

import multiprocessing
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from glus_mm.apis.mask_evaluation.annotated_expressions import open_expressions
from glus_mm.evaluation.davis_annotations import open_label_maps
from glus_mm.evaluation.predictions import (
    FrameFolder,
    PredictionSource,
    PredictionTree,
    open_predictions,
)
from glus_mm.evaluation.protocols import (
    PROTOCOLS,
    BaseProtocol,
    ExpressionFrame,
    ExpressionProtocol,
    LabelFrame,
    MOSEv2Protocol,
    ObjectProtocol,
    RefDAVISProtocol,
    ReVOSProtocol,
    Summary,
    Track,
)
from glus_mm.evaluation.protocols.object_protocol import ANNOTATORS, ObjectScore
from glus_mm.utils.checked import checked

MISSING_POLICIES = ('error', 'empty', 'skip')


class MaskScorer(ABC):
    """Scores predictions from files; a job is an expression or a sequence.

    It holds the annotation and knows which files are missing, so that jobs can be scored in any
    order, and in several processes.

    Args:
        protocol: what is measured.
        source: the predictions; each of its folders is that of a job.
        videos: whose each of the folders is.
        missing: ``'error'``, ``'empty'`` or ``'skip'``.

    Raises:
        FileNotFoundError: a prediction is missing, and that is an error.
        ValueError: the tree holds what it should not, or nothing is left to score.
    """

    def __init__(self, protocol: BaseProtocol, source: PredictionSource, videos: Sequence[str],
                 missing: str) -> None:
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
        # Videos without any mask, where the protocol scores them 0.
        self.unpredicted: set[str] = set()
        if missing == 'empty' and protocol.unpredicted_video_is_zero:
            self.unpredicted = {*videos} - {
                video for position, video in enumerate(videos) if len(
                    self.scan.missing.get(position, ())) < len(self.folders[position].frames)}

    def __len__(self) -> int:
        return len(self.jobs)

    def num_frames(self, job: int) -> int:
        """Number of frames that a job scores."""
        return len(self.folders[self.jobs[job]].frames)

    @abstractmethod
    def score(self, job: int) -> tuple[list[Track], int]:
        """Score one job.

        Returns:
            Figures of its expression, or of the objects of its sequence; and the number of its
            frames whose values are more than background and one other.

        Raises:
            OSError: a file cannot be read.
            ValueError: a file is not as it should be; names file, video, expression and frame.
        """

    def prediction(self, position: int, frame: str, size: tuple[int, int]) -> np.ndarray:
        """Read a mask; see :meth:`PredictionSource.read`, but that one that is missing is empty."""
        if frame in self.scan.missing.get(position, ()):
            return np.zeros(size, dtype=np.uint8)
        return self.source.read(position, frame, size)

    def notes(self) -> dict:
        """What was missing, and how it counts; what was there beyond what was asked for."""
        frames = {'/'.join(self.folders[position].parts): len(missing)
                  for position, missing in self.scan.missing.items()}
        zero = {'scored_zero': sorted(self.unpredicted)} if self.unpredicted else {}
        return {'missing': {'policy': self.missing, 'frames': frames},
                'not_asked_for': self.scan.extra, **zero}

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
        self.items = self.annotation.items
        folders = expression_folders(self.items)
        super().__init__(protocol, open_predictions(pred_format, pred_dir, folders, extra),
                         [video['video_id'] for video, _ in self.items], missing)

    def score(self, job: int) -> tuple[list[Track], int]:
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
        return [track], len(grey)

    def notes(self) -> dict:
        """Add what foreground pixels are worth, where it matters; see the base class."""
        notes = super().notes()
        if self.source.format != 'png':
            notes['pred_format'] = self.source.format
        if self.protocol.needs_foreground:
            notes['pred_values'] = self.pred_values
        return notes

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
            pred = self.prediction(position, frame, size)
            highest = int(cv2.minMaxLoc(pred)[1])
            if self.pred_values == 255 and highest == 1:
                where = f'{self.folders[position].where}, frame {frame!r}'
                raise ValueError(f'{self.source.locate(position, frame)}: expected foreground '
                                 f'pixels of value 255 for {where}, as pred_values says, got the '
                                 'highest value 1; pred_values=1 is for such masks')
            if highest and cv2.countNonZero(pred) != cv2.countNonZero(
                    cv2.compare(pred, highest, cv2.CMP_EQ)):
                grey.append(t)
            foreground = None
            if self.protocol.needs_foreground:
                foreground = self.annotation.foreground(video, t, size)
            yield ExpressionFrame(gt, pred, foreground)

    def _size(self, position: int) -> tuple[int, int]:
        """Size of the masks: that of the annotation; where it states none, of a prediction."""
        video, _ = self.items[position]
        size = self.annotation.size(video)
        if size is not None:
            return size
        for other, (owner, _) in enumerate(self.items):
            missing = self.scan.missing.get(other, ())
            for frame in self.folders[other].frames if owner is video else ():
                size = None if frame in missing else self.source.size(other, frame)
                if size is not None:
                    return size
        # No mask anywhere, neither true nor predicted: all are empty, and any size will do.
        return 1, 1


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
        self.annotation = open_label_maps(protocol, ann_root)
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
        super().__init__(protocol, source, [sequence for _, sequence in self.items], missing)

    def score(self, job: int) -> tuple[list[Track], int]:
        """Score one sequence; see the base class."""
        position = self.jobs[job]
        part, sequence = self.items[position]
        objects = self.annotation.objects(sequence)
        zeros = [0.0] * self.num_frames(job)
        unpredicted = sequence in self.unpredicted
        if unpredicted:
            scores = [ObjectScore(number, dict.fromkeys(self.protocol.measures, zeros), {})
                      for number in objects]
        else:
            scores = self.protocol.score(self._frames(position, max(objects)), max(objects))
        tracks = [Track('mose_v2' if self.mose else 'davis', sequence, str(score.number),
                        score.values, video_unpredicted=unpredicted, part=part, notes=score.notes)
                  for score in scores if score.number in objects]
        return tracks, 0

    def _frames(self, position: int, num_objects: int) -> Iterator[LabelFrame]:
        """Read the label maps of a sequence, frame by frame."""
        _, sequence = self.items[position]
        folder = self.folders[position]
        size = self.annotation.size(sequence)
        limit = self.protocol.max_label(num_objects)
        for frame in folder.frames:
            gt = self.annotation.labels(sequence, frame, size)
            pred = self.prediction(position, frame, size)
            if pred.max() > limit:
                raise ValueError(f'{self.source.locate(position, frame)}: expected numbers of '
                                 f'objects up to {limit} for {folder.where}, frame {frame!r}, '
                                 f'got {pred.max()}')
            yield LabelFrame(gt, pred)


@dataclass(frozen=True)
class MaskEvaluation:
    """Result of an evaluation.

    Attributes:
        protocol: how it was done.
        tracks: figures of each expression or object, frame by frame.
        summary: figures of the data set.
        notes: what the figures leave out or are worth, for the JSON document.
    """

    protocol: BaseProtocol
    tracks: tuple[Track, ...]
    summary: Summary
    notes: dict

    def document(self) -> dict:
        """All figures as one JSON document; see :meth:`BaseProtocol.document`."""
        return dict(self.protocol.document(self.tracks, self.summary), notes=self.notes)

    def table(self) -> str:
        """The figures of the data set for people, in percent."""
        return self.protocol.table(self.summary)


def evaluate_masks(protocol: str,
                   ann_root: str | PathLike,
                   pred_dir: str | PathLike,
                   workers: int = 1,
                   missing: str = 'error',
                   extra: str = 'warn',
                   pred_values: int | None = None,
                   pred_format: str = 'png',
                   progress: bool = False) -> MaskEvaluation:
    """Evaluate predicted masks.

    Args:
        protocol: one of :data:`glus_mm.evaluation.protocols.PROTOCOLS`.
        ann_root: folder with the annotation, in the official layout.
        pred_dir: ``<video>/<expression>/<frame>.png``, or what ``pred_format`` says;
            ``<sequence>/<frame>.png`` for the protocols for objects; for ``'ref-davis'`` the
            parent of ``anno_0`` to ``anno_3``, each like that.
        workers: number of processes.
        missing: what a missing mask is: ``'error'``, ``'empty'`` = nothing was predicted, or
            ``'skip'`` = its expression or sequence is left out of all figures.
        extra: what predictions are that nobody asked for: ``'warn'`` notes them, ``'error'``
            refuses them.
        pred_values: ReVOS: what a foreground pixel is worth in A and R, 255 (None) or 1.
        pred_format: form of the predictions, one of
            :data:`glus_mm.evaluation.predictions.PREDICTION_FORMATS`; ``'auto'`` finds out.
        progress: show a progress bar.

    Returns:
        The figures. They do not depend on ``workers``.

    Raises:
        OSError: a file is missing or cannot be read.
        ValueError: an argument is unknown, or a file is not as it should be; names file, video,
            expression and frame.
        RuntimeError: a process died.
    """
    checked(PROTOCOLS, protocol=protocol)
    checked(1, workers=workers)
    checked(MISSING_POLICIES, missing=missing)
    checked((None, 255, 1), pred_values=pred_values)
    kind = PROTOCOLS[protocol]
    if issubclass(kind, ObjectProtocol):
        if pred_values is not None:
            raise ValueError(f'pred_values: expected none for {protocol}, whose values are numbers '
                             f'of objects, got {pred_values}')
        if pred_format not in ('png', 'auto'):
            raise ValueError(f"pred_format: expected 'png' or 'auto' for {protocol}, whose "
                             f'predictions are palette PNGs, got {pred_format!r}')
        rules = kind()
        scorer: MaskScorer = SequenceScorer(rules, ann_root, pred_dir, missing, extra)
    else:
        rules = ReVOSProtocol((pred_values or 255, )) if kind is ReVOSProtocol else kind()
        scorer = ExpressionScorer(rules, ann_root, pred_dir, missing, extra, pred_values,
                                  pred_format)
    found, grey_frames = [], 0
    with tqdm(total=sum(map(scorer.num_frames, range(len(scorer)))), desc=protocol, unit='frame',
              disable=not progress) as bar:
        for job, (scored, grey) in enumerate(_score_all(scorer, workers)):
            found += scored
            grey_frames += grey
            bar.update(scorer.num_frames(job))
    tracks = tuple(sorted(found, key=lambda track: track.key))
    notes = dict(scorer.notes(), grey_frames=grey_frames)
    return MaskEvaluation(rules, tracks, rules.summarise(tracks), notes)


def _score_all(scorer: MaskScorer, workers: int) -> Iterator[tuple[list[Track], int]]:
    """Score all jobs in their order."""
    jobs = range(len(scorer))
    workers = min(workers, len(jobs))
    if workers == 1:
        yield from map(scorer.score, jobs)
        return
    # A forked process shares the annotation with its parent; elsewhere it gets a copy.
    method = 'fork' if 'fork' in multiprocessing.get_all_start_methods() else None
    # Masks are too small for OpenCV's own threads, which would only wait for one another. They are
    # ended before the fork: a child that ends those of its parent waits for ever.
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    with ProcessPoolExecutor(workers, multiprocessing.get_context(method), _start_worker,
                             (scorer, )) as pool:
        try:
            yield from pool.map(_score, jobs)
        except BrokenProcessPool as error:
            raise RuntimeError(f'expected {workers} processes to finish, but one died (out of '
                               f'memory?): {error}') from error
        finally:
            pool.shutdown(cancel_futures=True)
            cv2.setNumThreads(threads)


# The scorer of a worker process; jobs are sent as numbers.
_WORKER: list[MaskScorer] = []


def _start_worker(scorer: MaskScorer) -> None:
    if cv2.getNumThreads() != 1:  # spawned, not forked: no thread of a parent is here
        cv2.setNumThreads(1)
    _WORKER[:] = [scorer]


def _score(job: int) -> tuple[list[Track], int]:
    return _WORKER[0].score(job)
