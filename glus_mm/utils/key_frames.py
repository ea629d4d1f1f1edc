"""Files of scores per frame and of key frames: reading, with every check."""

import json
import sys
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from glus_mm.utils.json_file import read_json_object

__all__ = ['KeyFrameFile', 'MissingEntryError', 'ScoreFile', 'ScoreFolder', 'best_frame',
           'open_scores']


class MissingEntryError(ValueError):
    """The file is sound, but has no usable entry for a video, an expression or a frame."""


def best_frame(scores: Sequence[float] | np.ndarray) -> int:
    """The frame with the highest score; the official rule.

    Args:
        scores: (T), nan where a frame has none.

    Returns:
        0-based position; the later one of equal scores, and the middle frame, ``T // 2``, where
        no frame has a score.

    Raises:
        ValueError: there is no frame.
    """
    scores = np.asarray(scores, dtype=np.float64)
    if scores.ndim != 1 or not len(scores):
        raise ValueError(f'expected scores (T) of at least one frame, got shape {scores.shape}')
    if np.isnan(scores).all():
        return len(scores) // 2
    return int(np.flatnonzero(scores == np.nanmax(scores))[-1])


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
        elif content.get('format', self.FORMAT) != self.FORMAT:
            raise ValueError(f"{path}: expected 'format': {self.FORMAT!r} or "
                             f'{ScoreFile.FORMAT!r}, got {content["format"]!r}')
        elif 'format' in content:
            self.dataset, self.names = content.get('dataset'), content.get('key_frames')
            if not isinstance(self.names, dict) or not all(
                    isinstance(video, dict)
                    and all(isinstance(name, str) for name in video.values())
                    for video in self.names.values()):
                raise ValueError(f"{path}: expected 'key_frames': {{video: {{expression: name of a "
                                 f'frame}}}}, got {self.names!r:.80}')
        else:
            self.numbers = {key: _number(value, f'{path}: {key!r}')
                            for key, value in content.items()}
            if not self.numbers:
                raise ValueError(f'{path}: expected key frames, got an empty object')

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
            if dataset is not None and self.dataset is not None and dataset != self.dataset:
                raise ValueError(f'{self.path}: expected key frames of the data set {dataset!r}, '
                                 f'got those of {self.dataset!r}')
            name = self.names.get(video_id, {}).get(exp_id)
            if name is None:
                raise MissingEntryError(f'{where}: expected a key frame, got none')
            if name not in frame_names:
                raise MissingEntryError(f'{where}: expected one of the {len(frame_names)} frames '
                                        f'{frame_names[0]!r}..{frame_names[-1]!r}, got {name!r}')
            return list(frame_names).index(name)
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


def open_scores(path: str | PathLike) -> ScoreFile | ScoreFolder:
    """Open scores in one of the two layouts.

    Args:
        path: a JSON file in our layout, or a folder in the official one.

    Raises:
        FileNotFoundError: there is neither.
        ValueError: the file is none of scores.
    """
    return ScoreFolder(path) if Path(path).is_dir() else ScoreFile(path)
