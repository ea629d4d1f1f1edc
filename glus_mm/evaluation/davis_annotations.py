"""DAVIS 2017, MOSE and MOSEv2 as they are published: one palette PNG per frame."""

import os
from os import PathLike
from pathlib import Path

import numpy as np

from glus_mm.evaluation.protocols import MOSEv2Protocol, ObjectProtocol
from glus_mm.evaluation.protocols.object_protocol import VOID
from glus_mm.utils.json_file import read_json_object
from glus_mm.utils.masks import read_mask_png

_RESOLUTION = '480p'


class LabelMaps:
    """The true label maps of a data set's sequences.

    Attributes:
        folder: that of the folders of the sequences.
        frames: names of the frames of each sequence, without suffix.
        modes: of the files, as Pillow names them.
    """

    folder: Path
    frames: dict[str, tuple[str, ...]]
    modes: tuple[str, ...] = ('P', )

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
        return read_mask_png(self.folder / sequence / f'{frame}.png', where, self.modes, size)


class DAVISAnnotations(LabelMaps):
    """The true label maps of the subset ``val`` of DAVIS 2017.

    ::

        root/
          ImageSets/2017/val.txt                    names of the sequences, one per line
          Annotations/480p/<sequence>/<frame>.png   semi-supervised
          Annotations_unsupervised/480p/...         unsupervised; 255 = void

    Args:
        root: the folder.
        folder: ``'Annotations'`` or ``'Annotations_unsupervised'``.

    Raises:
        FileNotFoundError: the list, or the folder of a sequence, is not there.
        ValueError: the list is empty, holds a name twice or one that is no file name, or a folder
            holds no or other files.
    """

    def __init__(self, root: str | PathLike, folder: str) -> None:
        self.folder = Path(root) / folder / _RESOLUTION
        self.list_file = Path(root) / 'ImageSets' / '2017' / 'val.txt'
        self.frames = {sequence: self._list_frames(sequence) for sequence in self._read_list()}

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

    def _list_frames(self, sequence: str) -> tuple[str, ...]:
        path = self.folder / sequence
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

    def objects(self, sequence: str) -> range:
        """Numbers of the objects of a sequence: all up to the highest one in its first frame.

        Raises:
            OSError: the file cannot be read.
            ValueError: it is no such PNG file, or shows no object.
        """
        first = self.frames[sequence][0]
        labels = self.labels(sequence, first, None)
        count = int(np.where(labels == VOID, 0, labels).max())
        if count == 0:
            raise ValueError(f'{self.folder / sequence / first}.png: expected at least one object '
                             f'on the first frame of sequence {sequence!r}, got only 0 and {VOID}')
        return range(1, count + 1)


class MOSEAnnotations(LabelMaps):
    """The true label maps of a split of MOSEv2.

    ::

        root/
          meta.json                          {"videos": {video: {"objects": ["1", ...],
                                             "length": 60}}}
          Annotations/<video>/<frame>.png    value = number of the object

    The videos are those that have a folder.

    Args:
        root: the folder.

    Raises:
        FileNotFoundError: the list or the folder is not there.
        ValueError: the list does not say what it should of a video, or a folder holds no, too
            many, too few or other files.
    """

    modes = ('P', 'L')

    def __init__(self, root: str | PathLike) -> None:
        self.folder = Path(root) / 'Annotations'
        self.list_file = Path(root) / 'meta.json'
        if not self.folder.is_dir():
            raise FileNotFoundError(f'{self.folder}: expected the annotations of MOSE, got no such '
                                    'folder')
        content = read_json_object(str(self.list_file))
        listed = content.get('videos')
        if not isinstance(listed, dict):
            raise ValueError(f"{self.list_file}: expected an object with the key 'videos', got "
                             f'{sorted(content)[:8]}')
        self.frames = {}
        self._objects: dict[str, tuple[int, ...]] = {}
        for path in sorted(self.folder.iterdir()):
            if not path.name.startswith('.'):
                self._add(path, listed.get(path.name))
        if not self.frames:
            raise ValueError(f'{self.folder}: expected the folder of at least one video, got none')

    def _add(self, path: Path, entry: object) -> None:
        where = f'{self.list_file}: video {path.name!r}'
        if not path.is_dir():
            raise ValueError(f'{path}: expected only folders of videos here, got a file')
        if not isinstance(entry, dict):
            raise ValueError(f'{where}: expected an entry for the folder {path}, got {entry!r:.80}')
        objects = entry.get('objects')
        numbers = [int(obj) for obj in objects if str(obj).isascii() and str(obj).isdigit()
                   and len(str(obj)) <= 3] if isinstance(objects, (list, dict)) else []
        if not numbers or len(numbers) != len(objects) or not all(0 < n < 256 for n in numbers) \
                or len(set(numbers)) != len(numbers):
            raise ValueError(f"{where}, key 'objects': expected numbers of objects from 1 to 255, "
                             f'got {str(objects)[:80]}')
        names = [name for name in os.listdir(path) if not name.startswith('.')]
        for name in names:
            if not (name.endswith('.png') and name.removesuffix('.png').isdecimal()):
                raise ValueError(f'{path / name}: expected only PNG files with a number as name, '
                                 f'got {name!r}')
        if len(names) != entry.get('length'):
            raise ValueError(f"{where}, key 'length': expected the number of files in {path}, "
                             f'{len(names)}, got {entry.get("length")!r:.80}')
        frames = sorted((name.removesuffix('.png') for name in names), key=int)
        self.frames[path.name] = tuple(frames)
        self._objects[path.name] = tuple(numbers)

    def objects(self, sequence: str) -> tuple[int, ...]:
        """Numbers of the objects of a video that count."""
        return self._objects[sequence]


def open_label_maps(protocol: ObjectProtocol, root: str | PathLike
                    ) -> DAVISAnnotations | MOSEAnnotations:
    """The true label maps that a protocol compares with.

    Args:
        protocol: what is measured.
        root: the folder with DAVIS 2017, or MOSE.
    """
    if isinstance(protocol, MOSEv2Protocol):
        return MOSEAnnotations(root)
    return DAVISAnnotations(root, protocol.annotation_folder)
