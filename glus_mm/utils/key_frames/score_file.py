"""Scores of all frames of a data set in one JSON file."""

import sys
from collections.abc import Sequence
from os import PathLike
from typing import Any

import numpy as np

from glus_mm.utils.json_file import read_json_object
from glus_mm.utils.key_frames.missing_entry_error import MissingEntryError


class ScoreFile:
    """Reads ``{"format": "glus_mm.frame_scores", "dataset": name, "videos": {video: {"frames":
    [file stems], "expressions": {exp: [scores]}}}}``; a score is a number, or null where a frame
    has none.

    Args:
        path: the file.

    Raises:
        FileNotFoundError: it cannot be opened.
        ValueError: it is no JSON, or not of this layout.
    """

    FORMAT = 'glus_mm.frame_scores'

    def __init__(self, path: str | PathLike) -> None:
        self.path = str(path)
        content = read_json_object(path)
        if content.get('format') != self.FORMAT:
            raise ValueError(f"{path}: expected 'format': {self.FORMAT!r}, got "
                             f'{content.get("format")!r}')
        self.dataset = content.get('dataset')
        self.videos = _checked_videos(content.get('videos'), self.path)

    def get(self, dataset: str | None, video_id: str, exp_id: str,
            frame_names: Sequence[str]) -> np.ndarray:
        """Look up the scores of an expression.

        Args:
            dataset: name of the data set that asks; None if it is not known.
            video_id: the video.
            exp_id: the expression.
            frame_names: (T) file stems of the video's frames.

        Returns:
            float64 (T), nan where a frame has no score.

        Raises:
            MissingEntryError: there is no such video or expression.
            ValueError: the file is that of another data set: the name or the frames differ.
        """
        if dataset is not None and self.dataset is not None and dataset != self.dataset:
            raise ValueError(f'{self.path}: expected scores of the data set {dataset!r}, got those '
                             f'of {self.dataset!r}')
        if video_id not in self.videos:
            raise MissingEntryError(f'{self.path}: expected scores of video {video_id!r}, got '
                                    f'{len(self.videos)} other videos')
        video = self.videos[video_id]
        if list(frame_names) != video['frames']:
            raise ValueError(
                f'{self.path}: video {video_id!r}: expected its {len(frame_names)} frames '
                f'{_ends(frame_names)}, got {len(video["frames"])}, {_ends(video["frames"])}: '
                'the scores are those of another data set or frame rate')
        if exp_id not in video['expressions']:
            raise MissingEntryError(f'{self.path}: video {video_id!r}: expected scores of '
                                    f'expression {exp_id!r}, got {sorted(video["expressions"])}')
        return np.array(video['expressions'][exp_id], dtype=np.float64)


def check_scores(scores: Any, where: str) -> list[float | None]:
    """Return a list of numbers and null, or raise a ``ValueError`` that names the place."""
    if not isinstance(scores, list) or not all(
            s is None or isinstance(s, (int, float)) and not isinstance(s, bool) for s in scores):
        raise ValueError(f'{where}: expected a list of numbers and null, got {scores!r:.80}')
    for score in scores:
        # Longer integers are no floats.
        if score is not None and not abs(score) <= sys.float_info.max:
            raise ValueError(f'{where}: expected finite numbers, got {score!r:.40}')
    return scores


def _checked_videos(videos: Any, path: str) -> dict[str, dict]:
    if not isinstance(videos, dict):
        raise ValueError(f"{path}: expected an object 'videos', got {type(videos).__name__}")
    for video_id, video in videos.items():
        where = f'{path}: video {video_id!r}'
        if not isinstance(video, dict) or not isinstance(video.get('frames'), list) \
                or not isinstance(video.get('expressions'), dict):
            raise ValueError(f"{where}: expected 'frames' and 'expressions', got {video!r:.80}")
        for exp_id, scores in video['expressions'].items():
            check_scores(scores, f'{where}, expression {exp_id!r}')
            if len(scores) != len(video['frames']):
                raise ValueError(f'{where}, expression {exp_id!r}: expected a score for each of '
                                 f'{len(video["frames"])} frames, got {len(scores)}')
    return videos


def _ends(names: Sequence[str]) -> str:
    return f'{names[0]!r}..{names[-1]!r}' if len(names) else '(none)'
