"""DAVIS 2017 as it is published: one palette PNG per frame."""

import os
from os import PathLike
from pathlib import Path

import numpy as np

from glus_mm.evaluation.predictions.png_file import read_mask_png
from glus_mm.evaluation.protocols.object_protocol import VOID, count_objects

_RESOLUTION = '480p'


class DAVISAnnotations:
    """The true label maps of a subset of DAVIS 2017.

    ::

        root/
          ImageSets/2017/val.txt                    names of the sequences, one per line
          Annotations/480p/<sequence>/<frame>.png   semi-supervised
          Annotations_unsupervised/480p/...         unsupervised; 255 = void

    Args:
        root: the folder.
        folder: ``'Annotations'`` or ``'Annotations_unsupervised'``.
        subset: name of the list of sequences.

    Raises:
        FileNotFoundError: the list, or the folder of a sequence, is not there.
        ValueError: the list is empty, holds a name twice or one that is no file name, or a folder
            holds no or other files.
    """

    def __init__(self, root: str | PathLike, folder: str, subset: str = 'val') -> None:
        self.root = Path(root)
        self.folder = folder
        self.list_file = self.root / 'ImageSets' / '2017' / f'{subset}.txt'
        self.frames: dict[str, tuple[str, ...]] = {
            sequence: self._list_frames(sequence) for sequence in self._read_list()}
        """Names of the frames of each sequence, without suffix."""

    def _read_list(self) -> list[str]:
        try:
            names = self.list_file.read_text(encoding='utf-8').split()
        except FileNotFoundError:
            raise FileNotFoundError(f'{self.list_file}: expected the list of the sequences of '
                                    'DAVIS 2017, got nothing there') from None
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f'{self.list_file}: expected the list of the sequences of DAVIS 2017, '
                             f'but it cannot be read: {error}') from error
        if not names:
            raise ValueError(f'{self.list_file}: expected at least one sequence, got none')
        for position, name in enumerate(names):
            if name in ('.', '..') or any(char in name for char in '/\\\0'):
                raise ValueError(f'{self.list_file}: expected the name of a folder, got {name!r}')
            if name in names[:position]:
                raise ValueError(f'{self.list_file}: expected each sequence once, got {name!r} '
                                 'twice')
        return names

    def _path(self, sequence: str, frame: str = '') -> Path:
        folder = self.root / self.folder / _RESOLUTION / sequence
        return folder / f'{frame}.png' if frame else folder

    def _list_frames(self, sequence: str) -> tuple[str, ...]:
        path = self._path(sequence)
        try:
            names = sorted(name for name in os.listdir(path) if not name.startswith('.'))
        except (FileNotFoundError, NotADirectoryError) as error:
            raise FileNotFoundError(f'{path}: expected the annotations of sequence {sequence!r}, '
                                    'got no such folder') from error
        for name in names:
            if not name.endswith('.png'):
                raise ValueError(f'{path / name}: expected only PNG files with the annotations of '
                                 f'sequence {sequence!r}, got {name!r}')
        if not names:
            raise ValueError(f'{path}: expected at least one PNG file with the annotations of '
                             f'sequence {sequence!r}, got none')
        return tuple(name.removesuffix('.png') for name in names)

    def size(self, sequence: str) -> tuple[int, int]:
        """Size ``(H, W)`` of the label maps of a sequence."""
        return self.labels(sequence, self.frames[sequence][0], None).shape

    def labels(self, sequence: str, frame: str, size: tuple[int, int] | None) -> np.ndarray:
        """Read a label map.

        Args:
            sequence: one of ``frames``.
            frame: one of its frames.
            size: ``(H, W)`` that it must have; any if None.

        Returns:
            uint8 (H, W), numbers of objects; 0 = background, 255 = void.

        Raises:
            OSError: the file cannot be read.
            ValueError: it is no such PNG file.
        """
        where = f'sequence {sequence!r}, frame {frame!r}'
        return read_mask_png(self._path(sequence, frame), where, ('P', ), size)

    def num_objects(self, sequence: str) -> int:
        """Count the objects of a sequence, those of its first frame.

        Raises:
            OSError: the file cannot be read.
            ValueError: it is no such PNG file, or shows no object.
        """
        first = self.frames[sequence][0]
        count = count_objects(self.labels(sequence, first, None))
        if count == 0:
            raise ValueError(f'{self._path(sequence, first)}: expected at least one object on the '
                             f'first frame of sequence {sequence!r}, got only 0 and {VOID}')
        return count

    def objects(self, sequence: str) -> range:
        """Numbers of the objects of a sequence: all up to :meth:`num_objects`."""
        return range(1, self.num_objects(sequence) + 1)
