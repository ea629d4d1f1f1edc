"""PNG files as other systems write them."""

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import NamedTuple

import numpy as np

from glus_mm.evaluation.predictions.png_file import read_mask_png
from glus_mm.evaluation.predictions.prediction_source import (
    FrameFolder,
    PredictionSource,
    TreeScan,
)
from glus_mm.evaluation.predictions.prediction_tree import PredictionTree

_ANY_MODE = ('1', 'L', 'P', 'LA', 'RGB', 'RGBA', 'I;16', 'I')


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

    def place(self, position: int, frame: str) -> Path:
        """File of the frame, of the first object; see the base class."""
        paths = [self.tree.place(part.folder, frame) for part in self._parts[position]]
        return next((path for path in paths if not path.exists()), (paths or [self.root])[0])

    def read(self, position: int, frame: str, size: tuple[int, int] | None) -> np.ndarray:
        """Unite what belongs to the expression; see the base class."""
        where = f'{self.folders[position].where}, frame {frame!r}'
        total: np.ndarray | None = None
        for part in self._parts[position]:
            path = self.tree.place(part.folder, frame)
            mask = _one_channel(read_mask_png(path, where, self.tree.modes, size))
            if part.value is not None:
                mask = (mask == part.value).view(np.uint8) * np.uint8(255)
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


def _one_channel(pixels: np.ndarray) -> np.ndarray:
    """uint8 (H, W): 8-bit values as they are, 255 where anything else is not 0."""
    if pixels.ndim == 3:
        pixels = pixels[..., :1 if pixels.shape[2] == 2 else 3].any(axis=2)
    return pixels if pixels.dtype == np.uint8 else (pixels != 0).view(np.uint8) * np.uint8(255)
