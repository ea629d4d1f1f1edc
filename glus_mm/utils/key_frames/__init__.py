"""Files of scores per frame and of key frames: reading, with every check."""

from os import PathLike
from pathlib import Path

from glus_mm.utils.key_frames.best_frame import best_frame
from glus_mm.utils.key_frames.key_frame_file import KeyFrameFile
from glus_mm.utils.key_frames.missing_entry_error import MissingEntryError
from glus_mm.utils.key_frames.score_file import ScoreFile
from glus_mm.utils.key_frames.score_folder import ScoreFolder

__all__ = ['KeyFrameFile', 'MissingEntryError', 'ScoreFile', 'ScoreFolder', 'best_frame',
           'open_scores']


def open_scores(path: str | PathLike) -> ScoreFile | ScoreFolder:
    """Open scores in one of the two layouts.

    Args:
        path: a JSON file in our layout, or a folder in the official one.

    Raises:
        FileNotFoundError: there is neither.
        ValueError: the file is none of scores.
    """
    return ScoreFolder(path) if Path(path).is_dir() else ScoreFile(path)
