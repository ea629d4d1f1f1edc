"""Predictions as a tree of PNG files."""

import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from glus_mm.evaluation.predictions.png_file import read_mask_png
from glus_mm.evaluation.predictions.prediction_source import (
    FrameFolder,
    PredictionSource,
    TreeScan,
    names_of,
)

_IGNORED = ('__MACOSX', )


class PredictionTree(PredictionSource):
    """A tree of predictions, compared with what should be there.

    A frame that is missing is noted, not refused. A file where a folder should be, frames that the
    video does not have, and folders that hold no predictions are errors. Folders that hold
    predictions nobody asked for are noted: one tree may serve several data sets with different
    expressions of the same videos.

    Args:
        root: the folder.
        folders: what should be in it. No folder lies in another one.
        siblings_alike: folders with one parent (the expressions of a video) have the same frames.
            An unknown one beside them must have them, too.
        closed: no other folders may be directly below the root.
        extra: see :class:`PredictionSource`.
        modes: modes of the files, as Pillow names them.
    """

    def __init__(self, root: str | os.PathLike, folders: Sequence[FrameFolder],
                 siblings_alike: bool = True, closed: bool = False, extra: str = 'warn',
                 modes: Sequence[str] = ('L', )) -> None:
        super().__init__(root, folders, extra)
        self.siblings_alike = siblings_alike
        self.closed = closed
        self.modes = modes

    def place(self, position: int, frame: str) -> Path:
        """File of a frame; see the base class."""
        return self.root.joinpath(*self.folders[position].parts, f'{frame}.png')

    def read(self, position: int, frame: str, size: tuple[int, int] | None) -> np.ndarray:
        """The values of the file; see the base class."""
        where = f'{self.folders[position].where}, frame {frame!r}'
        return read_mask_png(self.place(position, frame), where, self.modes, size)

    def scan(self) -> TreeScan:
        """Look at all folders.

        Raises:
            FileNotFoundError: there is no such root.
            NotADirectoryError: a file is where a folder should be.
            ValueError: there is something that is no prediction.
        """
        if not self.root.exists():
            raise FileNotFoundError(f'{self.root}: expected a folder with predictions, got nothing '
                                    'there')
        result = TreeScan()
        children: dict[tuple[str, ...], dict[str, FrameFolder]] = defaultdict(dict)
        for folder in self.folders:
            for depth, part in enumerate(folder.parts):
                children[folder.parts[:depth]].setdefault(part, folder)
        for parent, known in children.items():
            self._scan_parent(parent, known, result)
        for position, folder in enumerate(self.folders):
            missing = self._scan_folder(folder)
            if missing:
                result.missing[position] = missing
        return result

    def _scan_parent(self, parent: tuple[str, ...], known: dict[str, FrameFolder],
                     result: TreeScan) -> None:
        """Look for what nobody asked for in a folder of folders."""
        folder = next(iter(known.values()))
        beside_expressions = self.siblings_alike and len(parent) == len(folder.parts) - 1
        of = f' of {folder.where.split(", expression")[0]}' if beside_expressions else ''
        for entry in entries_of(self.root.joinpath(*parent), f'the predictions{of}'):
            if entry.name in known:
                continue
            if not entry.is_dir():
                if entry.name.lower().endswith('.png'):
                    raise ValueError(f'{entry.path}: expected only the folders {names_of(known)}'
                                     f'{of} here, got a PNG file')
                continue
            problem = _problem(entry, known, folder if beside_expressions else None)
            if problem is None and self.closed and not parent:
                problem = 'got another one'
            if problem is None and self.extra == 'error':
                problem = 'got one with predictions that nobody asked for'
            if problem is not None:
                raise ValueError(f'{entry.path}: expected only the folders {names_of(known)}{of} '
                                 f'here, {problem}')
            result.extra.append(Path(entry.path).relative_to(self.root).as_posix())

    def _scan_folder(self, folder: FrameFolder) -> list[str]:
        """Names of the frames that are missing in a folder."""
        path = self.root.joinpath(*folder.parts)
        needed, allowed = set(folder.frames), {*folder.frames, *folder.allowed}
        found = set()
        for entry in entries_of(path, f'the predictions of {folder.where}'):
            name, suffix = os.path.splitext(entry.name)
            if suffix != '.png' or name not in allowed:
                raise ValueError(
                    f'{entry.path}: expected only <frame>.png for the {len(allowed)} frames of '
                    f'{folder.where} ({names_of(sorted(allowed))}), got {entry.name!r}')
            if entry.is_dir():
                raise ValueError(f'{entry.path}: expected a PNG file for {folder.where}, frame '
                                 f'{name!r}, got a folder')
            found.add(name)
        return [frame for frame in folder.frames if frame in needed - found]


def entries_of(path: Path, what: str = 'predictions') -> list[os.DirEntry]:
    """What lies in a folder, sorted; nothing where there is no folder. Hidden files are left out.

    Args:
        path: the folder.
        what: what it should hold, for errors.

    Raises:
        NotADirectoryError: there is a file.
        OSError: it cannot be read.
    """
    try:
        with os.scandir(path) as entries:
            found = [entry for entry in entries
                     if not entry.name.startswith('.') and entry.name not in _IGNORED]
    except FileNotFoundError:
        return []
    except NotADirectoryError:
        raise NotADirectoryError(f'{path}: expected a folder with {what}, got a file here or '
                                 'above') from None
    except OSError as error:
        raise type(error)(f'{path}: expected a folder with {what}, but it cannot be read: '
                          f'{error.strerror or error}') from error
    return sorted(found, key=lambda entry: entry.name)


def _problem(entry: os.DirEntry, known: dict[str, FrameFolder],
             alike: FrameFolder | None) -> str | None:
    """Say why an unknown folder holds no predictions; None where it does.

    Args:
        entry: the folder.
        known: the folders beside it.
        alike: one of them whose frames it must have.
    """
    if alike is not None:
        if all(map(str.isdecimal, known)) and not entry.name.isdecimal():
            return f'got {entry.name!r}, which is no number as all others are'
        names = [child.name for child in entries_of(Path(entry.path))]
        frames = {f'{frame}.png' for frame in (*alike.frames, *alike.allowed)}
        if set(names) != frames:
            return (f'got another one, which does not hold the {len(frames)} frames of this video '
                    f'but {names_of(names) or "nothing"}')
        return None
    return None if _holds_png(Path(entry.path)) else 'got another one, which holds no PNG file'


def _holds_png(path: Path) -> bool:
    """Tell whether the first entries of a folder, down to its files, lead to a PNG file."""
    for entry in entries_of(path):
        if entry.is_dir(follow_symlinks=False):
            return _holds_png(Path(entry.path))
        if entry.name.endswith('.png'):
            return True
    return False
