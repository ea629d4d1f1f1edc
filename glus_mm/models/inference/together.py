"""Several videos on their way through a model at once, each with its own state and clock."""

from collections.abc import Callable, Generator, Hashable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import torch

from glus_mm.models.inference.video_session import MaskPrediction

Prediction = tuple[int, list[int], MaskPrediction]
Result = TypeVar('Result')


@dataclass(frozen=True)
class Work:
    """What the steps of a video wait for; that of several videos is done in one batch.

    Attributes:
        stage: place among the works of a frame. The latest comes first: videos that are behind
            catch up, so that all of them are at the same stage again and again.
        key: works of one stage are batched where their keys are equal.
        rows: how much of a batch this one takes up.
        run: does a batch of works with this stage and key: their ``args`` to their results.
        args: what this one is about.
    """

    stage: int
    key: Hashable
    rows: int
    run: Callable[[list[Any]], list[Any]]
    args: Any


Steps = Generator[Work | Prediction, Any, None]
"""Yields the predictions of a video, and :class:`Work`, whose result is sent to it."""


class Video(NamedTuple):
    """A video that waits for its turn.

    Attributes:
        name: what it is called in the results.
        tracks: number of its expressions.
        steps: not begun, so that nothing is open yet.
    """

    name: Any
    tracks: int
    steps: Steps


@dataclass
class _Going:
    """A video that has begun: what it waits for, and what it is to get."""

    video: Video
    work: Work | None = None
    answer: Any = None
    error: Exception | None = None


@torch.no_grad()
def together(videos: Iterable[Video], max_tracks: int, max_rows: int
             ) -> Iterator[tuple[Any, Prediction | Exception | None]]:
    """Segment videos, as many at once as there is room for; what they wait for is batched.

    Args:
        videos: taken from the front as the ones before end.
        max_tracks: the most expressions of all videos that have begun; one that has more by
            itself goes alone.
        max_rows: the most rows of a batch; a work that has more by itself is a batch of its own.

    Yields:
        ``(name, prediction)``; at the end of a video ``(name, None)``, or ``(name, error)`` with
        what ended it. The others go on.
    """
    coming, following = iter(videos), None
    going: list[_Going] = []
    try:
        while True:
            tracks = sum(one.video.tracks for one in going)
            while not going or tracks < max_tracks:
                following = following or next(coming, None)
                if following is None or going and tracks + following.tracks > max_tracks:
                    break
                going.append(_Going(following))
                tracks += following.tracks
                following = None
            if not going:
                return
            for one in list(going):
                while one.work is None:
                    steps, answer, error = one.video.steps, one.answer, one.error
                    one.answer = one.error = None
                    try:
                        item = steps.send(answer) if error is None else steps.throw(error)
                    except StopIteration:
                        item = None
                    except Exception as failed:  # noqa: BLE001 - one must not end the others
                        item = failed
                    if isinstance(item, Work):
                        one.work = item
                        continue
                    if not isinstance(item, tuple):
                        going.remove(one)
                        yield one.video.name, item
                        break
                    yield one.video.name, item
            if going:
                _run(going, max_rows)
    finally:
        for one in going:
            one.video.steps.close()


@torch.no_grad()
def alone(steps: Steps) -> Generator[Prediction, None, Any]:
    """The predictions of one video; its work is done as it comes. Returns what the steps return."""
    answer = None
    with closing(steps):
        while True:
            try:
                item = steps.send(answer)
            except StopIteration as end:
                return end.value
            answer = None
            if isinstance(item, Work):
                answer, = item.run([item.args])
            else:
                yield item


def outcome(work: Generator[Work, Any, Result]) -> Result:
    """Do work that makes no predictions; gives back what it returns.

    Raises:
        TypeError: it made a prediction.
    """
    try:
        next(alone(work))
    except StopIteration as end:
        return end.value
    raise TypeError('expected work without predictions, got one')


def _run(going: list[_Going], max_rows: int) -> None:
    """Do a batch of what the videos wait for."""
    first = max(going, key=lambda one: one.work.stage)
    batch, rows = [], 0
    for one in going:
        alike = (one.work.stage, one.work.key) == (first.work.stage, first.work.key)
        if alike and (not batch or rows + one.work.rows <= max_rows):
            batch.append(one)
            rows += one.work.rows
    try:
        results = batch[0].work.run([one.work.args for one in batch])
        for one, result in zip(batch, results, strict=True):
            one.answer = result
    except Exception as error:  # noqa: BLE001 - it is raised where it was waited for
        for one in batch:
            one.error = error
    for one in batch:
        one.work = None
