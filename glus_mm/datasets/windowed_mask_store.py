"""Masks as GroundMoRe has them: palette PNGs, of which a span of time counts."""

import os.path as osp

import numpy as np
from PIL import Image

from glus_mm.datasets.png_mask_store import PNGMaskStore


class WindowedMaskStore(PNGMaskStore):
    """``<path>/<video>/masks/<frame>.png`` with the number of the object as value.

    An object is not visible on a frame without a file. Expressions need ``frame_numbers``, and
    ``window``, the first and the last of the numbers on which they have a target. See
    :class:`PNGMaskStore` for the arguments.
    """

    def file_of(self, expression: dict, anno_id: str, frame_idx: int) -> str:
        """Path of the file with all objects of a frame; see the base class."""
        name = expression['frame_names'][frame_idx]
        return osp.join(self.path, expression['video_id'], 'masks', f'{name}.png')

    def index_map(self, image: Image.Image, where: str) -> np.ndarray:
        """The values; see the base class."""
        if image.mode not in ('P', 'L'):
            raise ValueError(f'{where}: expected a PNG of mode P or L whose values are the numbers '
                             f'of the objects, got mode {image.mode}')
        return np.asarray(image)

    def rles(self, expression: dict, frame_idx: int, size: tuple[int, int]) -> list[dict]:
        """Masks of one expression's objects on one frame; see :class:`MaskSource`."""
        found = []
        first, last = expression['window']
        for anno_id in expression['anno_ids']:
            where = self.check_frame(expression, anno_id, frame_idx)
            path = self.file_of(expression, anno_id, frame_idx)
            if first <= expression['frame_numbers'][frame_idx] <= last and osp.lexists(path):
                shape, masks = self.objects(path, where)
                self.check_size(shape, size, path, where)
                if int(anno_id) in masks:
                    found.append(masks[int(anno_id)])
        return found

    def size(self, expression: dict) -> tuple[int, int] | None:
        """Size of the first file of the video; see :class:`MaskSource`."""
        for frame_idx in range(len(expression['frame_names'])):
            path = self.file_of(expression, '', frame_idx)
            if osp.lexists(path):
                return self.objects(path, self.where(expression, '', frame_idx))[0]
        return None
