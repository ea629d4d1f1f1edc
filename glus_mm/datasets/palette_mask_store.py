"""Masks as Ref-YouTube-VOS and DAVIS have them: the objects of a frame in one palette PNG."""

import os.path as osp
from os import PathLike

import numpy as np
from PIL import Image

from glus_mm.datasets.png_mask_store import PNGMaskStore


class PaletteMaskStore(PNGMaskStore):
    """``<path>/<video>/<frame>.png`` with the number of the object as palette index.

    255 means void, as in DAVIS, and belongs to no object. An object may be out of sight, but not
    on all frames: then it is none of the video's, and the annotation is wrong. Finding this out
    takes a look at other frames only where the object is not seen on the frame that is asked for.

    Args:
        path: folder with one folder per video.
        cache_size: number of files whose run lengths (a few KB each) are kept.

    Raises:
        ValueError: ``cache_size`` is below 1.
    """

    def __init__(self, path: str | PathLike, cache_size: int = 256) -> None:
        super().__init__(path, cache_size)
        self._seen: set[tuple[str, str]] = set()

    def file_of(self, expression: dict, anno_id: str, frame_idx: int) -> str:
        """Path of the file with all objects of a frame.

        See the base class.
        """
        name = expression['frame_names'][frame_idx]
        return osp.join(self.path, expression['video_id'], f'{name}.png')

    def index_map(self, image: Image.Image, where: str) -> np.ndarray:
        """The palette indices; in any other mode the numbers of the objects are lost.

        See the base class.
        """
        if image.mode != 'P':
            raise ValueError(f'{where}: expected a palette PNG (mode P) whose values are the '
                             f'numbers of the objects, got mode {image.mode}')
        return np.asarray(image)

    def rles(self, expression: dict, frame_idx: int, size: tuple[int, int]) -> list[dict]:
        """Masks of one expression's objects on one frame; see :class:`MaskSource`."""
        found = []
        for anno_id in expression['anno_ids']:
            where = self.check_frame(expression, anno_id, frame_idx)
            path = self.file_of(expression, anno_id, frame_idx)
            shape, masks = self.objects(path, where)
            self.check_size(shape, size, path, where)
            if int(anno_id) in masks:
                found.append(masks[int(anno_id)])
            else:
                self._require_elsewhere(expression, anno_id, where)
        return found

    def _require_elsewhere(self, expression: dict, anno_id: str, where: str) -> None:
        """Raise ``ValueError`` if an object is on no frame of its video."""
        key = (expression['video_id'], anno_id)
        if key in self._seen:
            return
        for frame_idx in range(len(expression['frame_names'])):
            path = self.file_of(expression, anno_id, frame_idx)
            if int(anno_id) in self.objects(path, where)[1]:
                self._seen.add(key)
                return
        raise ValueError(f'{where}: expected object {anno_id} on at least one of the '
                         f'{len(expression["frame_names"])} frames of '
                         f'{osp.join(self.path, expression["video_id"])}, got it on none')
