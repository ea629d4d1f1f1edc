"""Masks as ReasonVOS has them: a folder of binary PNG files for each object."""

import os.path as osp

import numpy as np
from PIL import Image

from glus_mm.datasets.png_mask_store import PNGMaskStore


class BinaryMaskStore(PNGMaskStore):
    """``<path>/<anno_id>/<frame>.png``, in which any pixel that is not black is the object.

    See :class:`PNGMaskStore` for the arguments.
    """

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
            shape, masks = self.objects(path, where)
            self.check_size(shape, size, path, where)
            found += masks.values()
        return found
