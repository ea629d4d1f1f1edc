"""Evaluation of masks that any system wrote."""

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from os import PathLike

import cv2
from tqdm import tqdm

from glus_mm.apis.mask_evaluation.scorers import (
    MISSING_POLICIES,
    ExpressionScorer,
    MaskScorer,
    Scored,
    SequenceScorer,
)
from glus_mm.evaluation.protocols import (
    PROTOCOLS,
    BaseProtocol,
    ObjectProtocol,
    ReVOSProtocol,
    Summary,
    Track,
)
from glus_mm.utils.checked import checked


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
    scored = _run(scorer, workers, progress)
    tracks = tuple(sorted((track for item in scored for track in item.tracks),
                          key=lambda track: track.key))
    notes = dict(scorer.notes(), grey_frames=sum(item.grey_frames for item in scored))
    return MaskEvaluation(rules, tracks, rules.summarise(tracks), notes)


def _run(scorer: MaskScorer, workers: int, progress: bool) -> list[Scored]:
    """Score all jobs in their order, with a progress bar over their frames."""
    jobs = range(len(scorer))
    scored = []
    with tqdm(total=sum(map(scorer.num_frames, jobs)), desc=scorer.protocol.name, unit='frame',
              disable=not progress) as bar:
        for item in _score_all(scorer, jobs, min(workers, len(jobs))):
            scored.append(item)
            bar.update(item.num_frames)
    return scored


def _score_all(scorer: MaskScorer, jobs: range, workers: int) -> Iterator[Scored]:
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


def _score(job: int) -> Scored:
    return _WORKER[0].score(job)
