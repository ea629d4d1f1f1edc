"""Masks in PNG files, one per frame."""

import struct
from abc import abstractmethod
from collections import OrderedDict
from collections.abc import Iterator
from io import BytesIO
from os import PathLike

import numpy as np
from PIL import Image

from glus_mm.datasets.mask_source import MaskSource
from glus_mm.utils.masks import encode_mask
from glus_mm.utils.paths import read_regular


class PNGMaskStore(MaskSource):
    """Masks of PNG files, decoded when they are asked for and kept as run lengths.

    Expressions need ``frame_names``, those of their video.

    Args:
        path: folder below which the files lie.
        cache_size: number of files whose run lengths (a few KB each) are kept.

    Raises:
        ValueError: ``cache_size`` is below 1.
    """

    def __init__(self, path: str | PathLike, cache_size: int = 256) -> None:
        super().__init__(str(path))
        if cache_size < 1:
            raise ValueError(f'cache_size must be at least 1, got {cache_size}')
        self.cache_size = cache_size
        self._cache: OrderedDict[str, tuple[tuple[int, int], dict[int, dict]]] = OrderedDict()

    @abstractmethod
    def file_of(self, expression: dict, anno_id: str, frame_idx: int) -> str:
        """Path of the file with the mask of an object on a frame.

        Args:
            expression: of the data list, see ``BaseRefVOSDataset.load_data_list``.
            anno_id: the annotation.
            frame_idx: 0-based position in the video.
        """

    @abstractmethod
    def index_map(self, image: Image.Image, where: str) -> np.ndarray:
        """Objects of an image.

        Args:
            image: the open file.
            where: what to name in an error.

        Returns:
            uint8 (H, W), 0 where there is none.

        Raises:
            ValueError: the image has the wrong mode.
        """

    def objects(self, path: str, where: str) -> tuple[tuple[int, int], dict[int, dict]]:
        """Read a file, or find it among those that are kept.

        Args:
            path: the file.
            where: what to name in an error.

        Returns:
            Size ``(H, W)``, and the COCO RLE of each object that is visible.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is no PNG of the right mode, or is damaged.
        """
        if path in self._cache:
            self._cache.move_to_end(path)
            return self._cache[path]
        indices = self.index_map(self._decode(path, where), f'{path} ({where})')
        # Counting would take as long as decoding where there is one object at most.
        highest = int(indices.max())
        present = range(highest + 1) if highest < 2 else np.flatnonzero(
            np.bincount(indices.ravel()))
        entry = (indices.shape, {int(i): encode_mask(indices == i) for i in present if i})
        self._cache[path] = entry
        if len(self._cache) > self.cache_size:
            self._cache.popitem(last=False)
        return entry

    def size(self, expression: dict) -> tuple[int, int] | None:
        """Size of the file with an expression's first mask; see :class:`MaskSource`."""
        for anno_id in expression['anno_ids'][:1]:
            where = self.where(expression, anno_id, 0)
            return self.objects(self.file_of(expression, anno_id, 0), where)[0]
        return None

    def files(self, expression: dict) -> Iterator[str]:
        """Files of an expression's masks, those of all frames; see :class:`MaskSource`."""
        for anno_id in expression['anno_ids']:
            for frame_idx in range(len(expression['frame_names'])):
                yield self.file_of(expression, anno_id, frame_idx)

    @staticmethod
    def _decode(path: str, where: str) -> Image.Image:
        try:
            data = BytesIO(read_regular(path))
            # Decoding alone does not look at the checksums: a flipped bit could go unseen.
            Image.open(data, formats=['PNG']).verify()
            image = Image.open(data, formats=['PNG'])
            image.load()
        except FileNotFoundError as error:
            raise FileNotFoundError(f'{where}: expected a PNG file with the mask, got nothing at '
                                    f'{path}') from error
        # What Pillow raises for files that are damaged in one place or another.
        except (OSError, SyntaxError, ValueError, EOFError, struct.error,
                Image.DecompressionBombError) as error:
            raise ValueError(f'{where}: expected a PNG file with the mask, but {path} cannot be '
                             f'decoded: {error}') from error
        return image

    def check_frame(self, expression: dict, anno_id: str, frame_idx: int) -> str:
        """Name a mask for errors; ``ValueError`` if the video has no such frame.

        Args:
            expression: of the data list, see ``BaseRefVOSDataset.load_data_list``.
            anno_id: the annotation.
            frame_idx: 0-based position in the video.
        """
        where = self.where(expression, anno_id, frame_idx)
        if not 0 <= frame_idx < len(expression['frame_names']):
            raise ValueError(f'{where}: expected a frame of the video, which has '
                             f'{len(expression["frame_names"])}')
        return where

    @staticmethod
    def check_size(found: tuple[int, int], size: tuple[int, int], path: str, where: str) -> None:
        """Raise ``ValueError`` unless a file has the size of its frame.

        Args:
            found: ``(H, W)`` of the file.
            size: ``(H, W)`` of the frame.
            path: the file.
            where: what to name in the error.
        """
        if tuple(found) != tuple(size):
            raise ValueError(f'{where}: expected a mask of the size of the frame, (H, W) = '
                             f'{tuple(size)}, got {tuple(found)} in {path}')

    def __getstate__(self) -> dict:
        return dict(self.__dict__, _cache=OrderedDict())
