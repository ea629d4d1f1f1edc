"""Masks as ReasonVOS and Long-RVOS have them: a folder of binary PNG files for each object."""

import os
import os.path as osp
from os import PathLike

import numpy as np
from PIL import Image

from glus_mm.datasets.png_mask_store import PNGMaskStore


class BinaryMaskStore(PNGMaskStore):
    """``<path>/<anno_id>/<frame>.png``, in which any pixel that is not black is the object.

    Args:
        path: see :class:`PNGMaskStore`.
        cache_size: likewise.
        absent_is_empty: an object is not visible on a frame without a file; it is an error
            otherwise.
    """

    def __init__(self, path: str | PathLike, cache_size: int = 256,
                 absent_is_empty: bool = False) -> None:
        super().__init__(path, cache_size)
        self.absent_is_empty = absent_is_empty

    def file_of(self, expression: dict, anno_id: str, frame_idx: int) -> str:
        """Path of the file with the mask of an object on a frame.

        See the base class.
        """
        return osp.join(self.path, anno_id, f'{expression["frame_names"][frame_idx]}.png')

    def index_map(self, image: Image.Image, where: str) -> np.ndarray:
        """1 where the pixel is not black.

        See the base class.
        """
        if image.mode not in ('1', 'L', 'P'):
            raise ValueError(f'{where}: expected a PNG of mode 1, L or P, got mode {image.mode}')
        return (np.asarray(image.convert('L')) > 0).astype(np.uint8)

    def rles(self, expression: dict, frame_idx: int, size: tuple[int, int]) -> list[dict]:
        """Masks of one expression's objects on one frame; see :class:`MaskSource`."""
        found = []
        for anno_id in expression['anno_ids']:
            where = self.check_frame(expression, anno_id, frame_idx)
            path = self.file_of(expression, anno_id, frame_idx)
            if self.absent_is_empty and not osp.lexists(path):
                continue
            shape, masks = self.objects(path, where)
            self.check_size(shape, size, path, where)
            found += masks.values()
        return found

    def size(self, expression: dict) -> tuple[int, int] | None:
        """Size of the first file that an expression has; see :class:`MaskSource`."""
        if not self.absent_is_empty:
            return super().size(expression)
        for anno_id in expression['anno_ids']:
            folder = osp.join(self.path, anno_id)
            names = set(os.listdir(folder)) if osp.isdir(folder) else ()
            for frame_idx, frame in enumerate(expression['frame_names']):
                if f'{frame}.png' in names:
                    where = self.where(expression, anno_id, frame_idx)
                    return self.objects(osp.join(folder, f'{frame}.png'), where)[0]
        return None
