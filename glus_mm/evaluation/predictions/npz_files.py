"""Predictions as NumPy archives."""

import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.lib import format as npy_format

from glus_mm.evaluation.predictions.prediction_tree import (
    FrameFolder,
    PredictionSource,
    TreeScan,
    names_of,
)


class _Member(NamedTuple):
    """An array (T, H, W) in an archive: its file, its name there, its shape and type."""

    path: Path
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype


class NPZFiles(PredictionSource):
    """Masks of an expression as an array (T, H, W), bool or integers, in an ``.npz`` file.

    The files are ``<video>/<exp>.npz`` or ``<video>_<exp>.npz`` with one array, or
    ``<video>.npz`` with an array named after each expression. An array is read frame by frame, so
    that no more than one frame of it is in memory. Values of 8 bits are kept; of others any but 0
    becomes 255.

    See :class:`PredictionSource` for the arguments.
    """

    def __init__(self, root: str | PathLike, folders: Sequence[FrameFolder],
                 extra: str = 'warn') -> None:
        super().__init__(root, folders, extra)
        self._members: dict[int, _Member] = {}
        self._open: tuple[int, BinaryIO, int] | None = None

    def scan(self) -> TreeScan:
        """Look at the heads of all arrays; see the base class."""
        if not self.root.is_dir():
            raise FileNotFoundError(f'{self.root}: expected a folder with predictions, got nothing '
                                    'there')
        missing, used = {}, set()
        for position, folder in enumerate(self.folders):
            member = self._find(folder)
            if member is None:
                missing[position] = list(folder.frames)
                continue
            used.add((member.path, member.name))
            where = f'{member.path}: array {member.name!r} of {folder.where}'
            if len(member.shape) != 3 or member.shape[0] != len(folder.frames):
                raise ValueError(f'{where}: expected masks (T, H, W) of the {len(folder.frames)} '
                                 f'frames, got shape {member.shape}')
            if member.dtype.kind not in 'biu':
                raise ValueError(f'{where}: expected bool or integers, got {member.dtype}')
            self._members[position] = member
        paths = {path for path, _ in used}
        extra = sorted(path.relative_to(self.root).as_posix() for path in self.root.rglob('*.npz')
                       if path not in paths and not path.name.startswith('.'))
        return self._found(missing, extra)

    def locate(self, position: int, frame: str) -> Path:
        """The archive; see the base class."""
        if position in self._members:
            return self._members[position].path
        return self.root.joinpath(*self.folders[position].parts[:-1],
                                  f'{self.folders[position].parts[-1]}.npz')

    def read(self, position: int, frame: str, size: tuple[int, int] | None) -> np.ndarray:
        """Read on to a frame of the array; see the base class."""
        folder, member = self.folders[position], self._members[position]
        where = f'{member.path}: array {member.name!r} of {folder.where}, frame {frame!r}'
        shape = member.shape[1:]
        if size is not None and shape != tuple(size):
            raise ValueError(f'{where}: expected a mask of size (H, W) = {tuple(size)}, got '
                             f'{shape}')
        t, length = folder.frames.index(frame), shape[0] * shape[1] * member.dtype.itemsize
        with _readable(f'{where}: expected a mask, but it cannot be read'):
            if self._open is None or self._open[0] != position or self._open[2] > t:
                self._open = (position, _open_array(member)[0], 0)
            _, file, at = self._open
            for _ in range(t - at + 1):
                data = file.read(length)
        if len(data) != length:
            raise ValueError(f'{where}: expected {length} bytes of a mask, got {len(data)}')
        self._open = (position, file, t + 1)
        mask = np.frombuffer(data, member.dtype).reshape(shape)
        return mask if mask.dtype == np.uint8 else (mask != 0).view(np.uint8) * np.uint8(255)

    def _find(self, folder: FrameFolder) -> _Member | None:
        """The array of an expression; None where there is none."""
        *video, exp_id = folder.parts
        parent = self.root.joinpath(*video)
        own = [parent / f'{exp_id}.npz', parent.with_name(f'{parent.name}_{exp_id}.npz')]
        found = [path for path in own if path.is_file()]
        shared = parent.with_name(f'{parent.name}.npz')
        if found:
            names = _names_in(found[0], folder.where)
            if len(names) != 1:
                raise ValueError(f'{found[0]}: expected one array with the masks of {folder.where},'
                                 f' got {names_of(names) or "none"}')
            return _head(found[0], names[0], folder.where)
        if shared.is_file() and exp_id in _names_in(shared, folder.where):
            return _head(shared, exp_id, folder.where)
        return None

    def __getstate__(self) -> dict:
        return dict(self.__dict__, _open=None)


def _names_in(path: Path, where: str) -> list[str]:
    """Names of the arrays in an archive."""
    with _readable(f'{path}: expected a NumPy archive with the masks of {where}, got one that '
                   'cannot be read'), zipfile.ZipFile(path) as archive:
        return [name.removesuffix('.npy') for name in archive.namelist()]


def _head(path: Path, name: str, where: str) -> _Member:
    """Shape and type of an array."""
    member = _Member(path, name, (), np.dtype(bool))
    with _readable(f'{path}: expected an array with the masks of {where} as {name!r}, got one that '
                   'cannot be read'):
        file, shape, dtype = _open_array(member)
    file.close()
    return member._replace(shape=shape, dtype=dtype)


@contextmanager
def _readable(message: str) -> Iterator[None]:
    """A ``ValueError`` that begins with a message for what goes wrong in an archive."""
    try:
        yield
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f'{message}: {error}') from error


def _open_array(member: _Member) -> tuple[BinaryIO, tuple[int, ...], np.dtype]:
    """Open an array behind its head; nothing is unpickled."""
    # Frame after frame is read from it; it is closed with the last reference to it.
    file = zipfile.ZipFile(member.path).open(f'{member.name}.npy')  # noqa: SIM115
    version = npy_format.read_magic(file)
    read = (npy_format.read_array_header_1_0 if version == (1, 0)
            else npy_format.read_array_header_2_0)
    shape, fortran, dtype = read(file)
    if fortran and len(shape) > 1:
        raise ValueError('its values lie in the order of columns; save np.ascontiguousarray(masks)')
    return file, shape, dtype
