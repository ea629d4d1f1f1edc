"""Where predicted masks come from, and trees of PNG files as the usual place."""

import os
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import NamedTuple

import numpy as np

from glus_mm.utils.checked import checked
from glus_mm.utils.masks import read_mask_png

EXTRA_POLICIES = ('warn', 'error')
_IGNORED = ('__MACOSX', )
_ANY_MODE = ('1', 'L', 'P', 'LA', 'RGB', 'RGBA', 'I;16', 'I')


@dataclass(frozen=True)
class FrameFolder:
    """Predictions of an expression or a sequence that should be there, one for each frame.

    Attributes:
        parts: their path below the root, part by part: the folders of the video, and that of the
            expression where there are expressions.
        frames: names of the frames that are needed, without suffix.
        where: what an error names, such as video and expression.
        allowed: names of frames that may be there too; those of ``frames`` need not be listed.
        objects: ids of the expression's objects, for systems that write masks of objects.
    """

    parts: tuple[str, ...]
    frames: tuple[str, ...]
    where: str
    allowed: tuple[str, ...] = ()
    objects: tuple[str, ...] = ()

    @property
    def video(self) -> str:
        """Id of the video, of a folder for an expression."""
        return '/'.join(self.parts[:-1])


@dataclass
class TreeScan:
    """What was found.

    Attributes:
        missing: by position of the folder, the names of the frames that are not there.
        extra: paths below the root, or keys in a file, that nobody asked for.
    """

    missing: dict[int, list[str]] = field(default_factory=dict)
    extra: list[str] = field(default_factory=list)


class PredictionSource(ABC):
    """Predictions in one of the forms in which systems write them, read one mask at a time.

    Args:
        root: the folder or file.
        folders: what should be there; methods take positions in this list.
        extra: ``'warn'`` notes predictions nobody asked for, ``'error'`` refuses them.

    Attributes:
        format: one of ``PREDICTION_FORMATS``.

    Raises:
        ValueError: ``extra`` is unknown.
    """

    format: str = 'png'

    def __init__(self, root: str | PathLike, folders: Sequence[FrameFolder],
                 extra: str = 'warn') -> None:
        checked(EXTRA_POLICIES, extra=extra)
        self.root = Path(root)
        self.folders = list(folders)
        self.extra = extra

    @abstractmethod
    def scan(self) -> TreeScan:
        """Compare what is there with what should be, before any mask is read.

        Raises:
            OSError: the root is missing, or something cannot be read.
            ValueError: there is something that is no prediction.
        """

    @abstractmethod
    def locate(self, position: int, frame: str) -> Path | str:
        """Where the mask of a frame is, or should be: a file, or a file and a key, for errors."""

    @abstractmethod
    def read(self, position: int, frame: str, size: tuple[int, int] | None) -> np.ndarray:
        """Read the mask of a frame that is not missing.

        Args:
            position: of the folder.
            frame: one of its frames.
            size: ``(H, W)`` that it must have; any if None.

        Returns:
            uint8 (H, W); any value but 0 is foreground.

        Raises:
            OSError: a file cannot be read.
            ValueError: the mask is not as it should be; names file, video, expression and frame.
        """

    def size(self, position: int, frame: str) -> tuple[int, int] | None:
        """Size ``(H, W)`` of a mask that is not missing; None where it states none.

        Raises:
            OSError: a file cannot be read.
            ValueError: the mask is not as it should be.
        """
        return self.read(position, frame, None).shape

    def _found(self, missing: dict[int, list[str]], extra: list[str]) -> TreeScan:
        """The result of :meth:`scan`; a ValueError where there is more than is wanted."""
        if extra and self.extra == 'error':
            raise ValueError(f'{self.root}: expected only predictions of the annotation\'s '
                             f'expressions, got {names_of(extra)}')
        return TreeScan(missing, extra)


def names_of(names: Iterable[str]) -> str:
    """The first names of many, for an error."""
    names = list(names)
    shown = ', '.join(repr(name) for name in names[:4])
    return shown + (f', ... {names[-1]!r}' if len(names) > 4 else '')


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

    def locate(self, position: int, frame: str) -> Path:
        """File of a frame; see the base class."""
        return self.root.joinpath(*self.folders[position].parts, f'{frame}.png')

    def read(self, position: int, frame: str, size: tuple[int, int] | None) -> np.ndarray:
        """The values of the file; see the base class."""
        where = f'{self.folders[position].where}, frame {frame!r}'
        return read_mask_png(self.locate(position, frame), where, self.modes, size)

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
    """Say why an unknown folder holds no predictions; None where it does."""
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


class _Part(NamedTuple):
    """Some of an expression's pixels: those of a folder, or those with one value there."""

    folder: int
    value: int | None = None


class ConvertedTree(PredictionSource):
    """A tree of PNG files that are not one grey file per expression and frame.

    ======================  =============================  ============================
    what the tree has       ``unit``                       foreground
    ======================  =============================  ============================
    expressions             ``<video>/<exp>/<frame>.png``  any pixel that is not 0
    objects                 ``<video>/<obj>/<frame>.png``  the same, of its objects
    labels                  ``<video>/<frame>.png``        values that are its objects
    ======================  =============================  ============================

    Files of expressions and objects may have any mode; of more channels than one any but the alpha
    channel counts. Where one channel of 8 bits was written, its values are kept.

    Args:
        root: the folder.
        folders: what should be there.
        unit: ``'expressions'``, ``'objects'`` or ``'labels'``.
        extra: see :class:`PredictionSource`.

    Raises:
        ValueError: with labels, the id of an object is no number from 1 to 255.
    """

    def __init__(self, root: str | PathLike, folders: Sequence[FrameFolder], unit: str,
                 extra: str = 'warn') -> None:
        super().__init__(root, folders, extra)
        units: dict[tuple[str, ...], int] = {}
        self._parts: list[list[_Part]] = []
        found: list[FrameFolder] = []

        def unit_of(parts: tuple[str, ...], folder: FrameFolder, where: str) -> int:
            if parts not in units:
                units[parts] = len(found)
                found.append(FrameFolder(parts, folder.frames, where))
            return units[parts]

        for folder in self.folders:
            video, of = folder.parts[:-1], f'video {folder.video!r}'
            if unit == 'expressions':
                parts = [_Part(unit_of(folder.parts, folder, folder.where))]
            elif unit == 'objects':
                parts = [_Part(unit_of((*video, obj), folder, f'{of}, object {obj!r}'))
                         for obj in folder.objects]
            else:
                parts = [_Part(unit_of(video, folder, of), _label(obj, folder))
                         for obj in folder.objects]
            self._parts.append(parts)
        modes = ('L', 'P') if unit == 'labels' else _ANY_MODE
        self.tree = PredictionTree(root, found, siblings_alike=unit != 'labels', extra=extra,
                                   modes=modes)

    def scan(self) -> TreeScan:
        """A frame is missing where that of any object is; see the base class."""
        scan = self.tree.scan()
        missing = {}
        for position, parts in enumerate(self._parts):
            frames = {frame for part in parts for frame in scan.missing.get(part.folder, ())}
            if frames:
                missing[position] = [f for f in self.folders[position].frames if f in frames]
        return TreeScan(missing, scan.extra)

    def locate(self, position: int, frame: str) -> Path:
        """File of the frame, of the first object; see the base class."""
        paths = [self.tree.locate(part.folder, frame) for part in self._parts[position]]
        return next((path for path in paths if not path.exists()), (paths or [self.root])[0])

    def read(self, position: int, frame: str, size: tuple[int, int] | None) -> np.ndarray:
        """Unite what belongs to the expression; see the base class."""
        where = f'{self.folders[position].where}, frame {frame!r}'
        total: np.ndarray | None = None
        for part in self._parts[position]:
            path = self.tree.locate(part.folder, frame)
            mask = read_mask_png(path, where, self.tree.modes, size)
            if mask.ndim == 3:
                mask = mask[..., :1 if mask.shape[2] == 2 else 3].any(axis=2)
            if part.value is not None:
                mask = mask == part.value
            if mask.dtype != np.uint8:
                mask = (mask != 0).view(np.uint8) * np.uint8(255)
            if total is not None and total.shape != mask.shape:
                raise ValueError(f'{path}: expected a mask of size (H, W) = {total.shape} for '
                                 f'{where}, got {mask.shape}')
            total = mask if total is None else np.maximum(total, mask)
        # An expression without objects.
        return np.zeros(size or (1, 1), dtype=np.uint8) if total is None else total

    def size(self, position: int, frame: str) -> tuple[int, int] | None:
        """Size of the first file; None of an expression without objects. See the base class."""
        return super().size(position, frame) if self._parts[position] else None


def _label(obj: str, folder: FrameFolder) -> int:
    if not (obj.isascii() and obj.isdigit() and 1 <= int(obj) <= 255):
        raise ValueError(f'{folder.where}: expected the number of an object from 1 to 255, as '
                         f'values of label maps are, got {obj!r}')
    return int(obj)
