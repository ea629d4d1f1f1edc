"""Scores one binary mask per expression and frame."""

from collections.abc import Iterator, Sequence
from os import PathLike

import cv2
import numpy as np

from glus_mm.apis.mask_evaluation.annotated_expressions import open_expressions
from glus_mm.apis.mask_evaluation.mask_scorer import MaskScorer, Scored
from glus_mm.evaluation.predictions import FrameFolder, open_predictions
from glus_mm.evaluation.protocols import ExpressionFrame, ExpressionProtocol, Track


class ExpressionScorer(MaskScorer):
    """Scores one mask per expression and frame; a job is an expression.

    Args:
        protocol: what is measured.
        ann_root: the folder with the annotation.
        pred_dir: the folder, or file, with the predictions.
        missing: see :class:`MaskScorer`.
        extra: likewise.
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
            raise ValueError(f'{self.source.place(position, frame)}: expected foreground pixels '
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
