"""Scores per frame in the official layout: a folder of small files."""

import json
from collections.abc import Sequence
from os import PathLike
from pathlib import Path

import numpy as np

from glus_mm.utils.key_frames.missing_entry_error import MissingEntryError
from glus_mm.utils.key_frames.score_file import check_scores


class ScoreFolder:
    """Reads ``<root>/<video>/<exp>.json``, each a list with a number for each frame.

    The layout has no names of frames, so that only their number can be compared.

    Args:
        root: the folder.

    Raises:
        FileNotFoundError: there is no such folder.
    """

    def __init__(self, root: str | PathLike) -> None:
        self.root = Path(root)
        if not self.root.is_dir():
            raise FileNotFoundError(f'expected a folder with scores, got nothing there: {root}')

    def get(self, dataset: str | None, video_id: str, exp_id: str,
            frame_names: Sequence[str]) -> np.ndarray:
        """Look up the scores of an expression; see :meth:`ScoreFile.get`."""
        path = self.root / video_id / f'{exp_id}.json'
        try:
            text = path.read_text(encoding='utf-8')
        except FileNotFoundError:
            raise MissingEntryError(f'{self.root}: expected scores of video {video_id!r}, '
                                    f'expression {exp_id!r}, got no file {path}') from None
        try:
            scores = check_scores(json.loads(text), str(path))
        except json.JSONDecodeError as error:
            raise ValueError(f'{path}: expected a JSON list, got a file that fails with: {error}') \
                from error
        if len(scores) != len(frame_names):
            raise ValueError(f'{path}: expected a score for each of {len(frame_names)} frames of '
                             f'video {video_id!r}, got {len(scores)}: the scores are those of '
                             'another data set or frame rate')
        return np.array(scores, dtype=np.float64)
