"""MOSE as it is published: one palette PNG per frame, and a list of videos with their objects."""

import os
from os import PathLike
from pathlib import Path

import numpy as np

from glus_mm.evaluation.predictions.png_file import read_mask_png
from glus_mm.utils.json_file import read_json_object


class MOSEAnnotations:
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
        self.frames: dict[str, tuple[str, ...]] = {}
        """Names of the frames of each video, without suffix."""
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

    def size(self, sequence: str) -> tuple[int, int]:
        """Size ``(H, W)`` of the label maps of a video."""
        return self.labels(sequence, self.frames[sequence][0], None).shape

    def labels(self, sequence: str, frame: str, size: tuple[int, int] | None) -> np.ndarray:
        """Read a label map.

        Args:
            sequence: one of ``frames``.
            frame: one of its frames.
            size: ``(H, W)`` that it must have; any if None.

        Returns:
            uint8 (H, W), numbers of objects; 0 = background.

        Raises:
            OSError: the file cannot be read.
            ValueError: it is no such PNG file.
        """
        where = f'sequence {sequence!r}, frame {frame!r}'
        return read_mask_png(self.folder / sequence / f'{frame}.png', where, ('P', 'L'), size)

    def objects(self, sequence: str) -> tuple[int, ...]:
        """Numbers of the objects of a video that count."""
        return self._objects[sequence]
