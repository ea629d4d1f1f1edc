"""Key frames in a JSON file: our layout, the official one, or scores."""

from collections.abc import Sequence
from os import PathLike
from pathlib import Path

import numpy as np

from glus_mm.utils.json_file import read_json_object
from glus_mm.utils.key_frames.best_frame import best_frame
from glus_mm.utils.key_frames.missing_entry_error import MissingEntryError
from glus_mm.utils.key_frames.score_file import ScoreFile
from glus_mm.utils.key_frames.score_folder import ScoreFolder


class KeyFrameFile:
    """Reads key frames in any of the layouts that this package and the official code write.

    - ours: ``{"format": "glus_mm.key_frames", "dataset": name, "key_frames": {video: {exp: name
      of the frame}}}``, the name being the stem of its file;
    - the official one: ``{"<video>_<exp>": number}``. The number is that of the frame's *file*
      (``00025.jpg`` is 25), which is its position only where files count from 0 without a gap;
    - scores, see :class:`ScoreFile` and :class:`ScoreFolder`: the frame with the highest one.

    Args:
        path: the file, or a folder of scores.

    Raises:
        FileNotFoundError: it cannot be opened.
        ValueError: it is of none of these layouts.
    """

    FORMAT = 'glus_mm.key_frames'

    def __init__(self, path: str | PathLike) -> None:
        self.path = str(path)
        self.scores: ScoreFile | ScoreFolder | None = None
        self.dataset: str | None = None
        self.names: dict[str, dict[str, str]] | None = None
        self.numbers: dict[str, int] = {}
        if Path(path).is_dir():
            self.scores = ScoreFolder(path)
            return
        content = read_json_object(path)
        if content.get('format') == ScoreFile.FORMAT:
            self.scores = ScoreFile(path)
        elif 'format' in content:
            self._take_own(content)
        else:
            self.numbers = {key: _number(value, f'{path}: {key!r}')
                            for key, value in content.items()}
            if not self.numbers:
                raise ValueError(f'{path}: expected key frames, got an empty object')

    def _take_own(self, content: dict) -> None:
        if content['format'] != self.FORMAT:
            raise ValueError(f"{self.path}: expected 'format': {self.FORMAT!r} or "
                             f'{ScoreFile.FORMAT!r}, got {content["format"]!r}')
        self.dataset, self.names = content.get('dataset'), content.get('key_frames')
        if not isinstance(self.names, dict) or not all(
                isinstance(video, dict) and all(isinstance(name, str) for name in video.values())
                for video in self.names.values()):
            raise ValueError(f"{self.path}: expected 'key_frames': {{video: {{expression: name of "
                             f'a frame}}}}, got {self.names!r:.80}')

    def frame_id(self, dataset: str | None, video_id: str, exp_id: str,
                 frame_names: Sequence[str]) -> int:
        """Look up the key frame of an expression.

        Args:
            dataset: name of the data set that asks; None if it is not known.
            video_id: the video.
            exp_id: the expression.
            frame_names: (T) file stems of the video's frames.

        Returns:
            0-based position in ``frame_names``.

        Raises:
            MissingEntryError: there is no entry, no frame has a score, or the entry names a frame
                that the video lacks.
            ValueError: the file is that of another data set, or frames have no numbers.
        """
        scores = self.frame_scores(dataset, video_id, exp_id, frame_names)
        where = f'{self.path}: video {video_id!r}, expression {exp_id!r}'
        if scores is not None:
            if np.isnan(scores).all():
                raise MissingEntryError(f'{where}: expected a score of some frame, got null for '
                                        f'all {len(scores)}')
            return best_frame(scores)
        if self.names is not None:
            return self._by_name(dataset, video_id, exp_id, frame_names, where)
        key = f'{video_id}_{exp_id}'
        if key not in self.numbers:
            raise MissingEntryError(f'{where}: expected an entry {key!r}, got none among '
                                    f'{len(self.numbers)}')
        return _position(self.numbers[key], frame_names, where)

    def frame_scores(self, dataset: str | None, video_id: str, exp_id: str,
                     frame_names: Sequence[str]) -> np.ndarray | None:
        """Scores (T) of an expression where the file has some, else None; see ``frame_id``."""
        if self.scores is None:
            return None
        return self.scores.get(dataset, video_id, exp_id, frame_names)

    def _by_name(self, dataset: str | None, video_id: str, exp_id: str,
                 frame_names: Sequence[str], where: str) -> int:
        if dataset is not None and self.dataset is not None and dataset != self.dataset:
            raise ValueError(f'{self.path}: expected key frames of the data set {dataset!r}, got '
                             f'those of {self.dataset!r}')
        name = self.names.get(video_id, {}).get(exp_id)
        if name is None:
            raise MissingEntryError(f'{where}: expected a key frame, got none')
        if name not in frame_names:
            raise MissingEntryError(f'{where}: expected one of the {len(frame_names)} frames '
                                    f'{frame_names[0]!r}..{frame_names[-1]!r}, got {name!r}')
        return list(frame_names).index(name)


def _number(value: object, where: str) -> int:
    """A frame number; the official files have integers, some scripts write them as text."""
    if isinstance(value, str) and value.isdecimal():
        return int(value)
    if type(value) is not int or value < 0:
        raise ValueError(f'{where}: expected the number of a frame, got {value!r:.80}')
    return value


def _position(number: int, frame_names: Sequence[str], where: str) -> int:
    """Where the frame whose file has this number is in the video."""
    if not all(name.isdecimal() for name in frame_names):
        raise ValueError(f'{where}: expected frames whose names are numbers, as the official '
                         f'layout needs, got {frame_names[0]!r}; use the layout '
                         f'{KeyFrameFile.FORMAT!r}')
    numbers = [int(name) for name in frame_names]
    if number not in numbers:
        raise MissingEntryError(f'{where}: expected the number of one of the {len(numbers)} '
                                f'frames {numbers[0]}..{numbers[-1]}, got {number}')
    return numbers.index(number)
