"""Where the masks of a data set come from: JSON files, PNG files of three kinds, COCO."""

import os.path as osp
from abc import ABCMeta, abstractmethod
from collections.abc import Iterator
from os import PathLike
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

from glus_mm.datasets.annotation_fields import check_name, get_field, parse_shape
from glus_mm.utils.bounded_cache import BoundedCache
from glus_mm.utils.checked import checked
from glus_mm.utils.json_file import read_json_object
from glus_mm.utils.json_index import JSONIndex
from glus_mm.utils.masks import (
    DAMAGED,
    check_rle,
    check_size,
    compress_runs,
    decode_png,
    encode_mask,
    merge_rles,
)
from glus_mm.utils.paths import read_regular


class MaskSource(metaclass=ABCMeta):
    """Masks of all expressions of a data set, read when they are asked for.

    Args:
        path: the file or folder with the masks, for error messages.
    """

    def __init__(self, path: str) -> None:
        self.path = path

    @abstractmethod
    def rles(self, expression: dict, frame_idx: int, size: tuple[int, int]) -> list[dict]:
        """Masks of one expression's objects on one frame.

        Args:
            expression: an entry of ``expressions`` as ``load_data_list`` makes it.
            frame_idx: 0-based position in the video.
            size: ``(H, W)`` that the masks must have: the size of the frame.

        Returns:
            COCO RLEs of the objects that are visible there; empty where none is.

        Raises:
            FileNotFoundError: a file with a mask is missing.
            ValueError: a mask has another size or is corrupt, or there is none for that
                object or frame.
        """

    def size(self, expression: dict) -> tuple[int, int] | None:
        """Size of an expression's masks, for those who have no frames at hand.

        Args:
            expression: an entry of ``expressions`` as ``load_data_list`` makes it.

        Returns:
            ``(H, W)``, or None where no mask says so.

        Raises:
            FileNotFoundError: a file with a mask is missing.
            ValueError: a file with a mask cannot be read.
        """
        return None

    def files(self, expression: dict) -> Iterator[str]:
        """Files that the masks of an expression are read from.

        Args:
            expression: an entry of ``expressions`` as ``load_data_list`` makes it.
        """
        yield self.path

    def where(self, expression: dict, anno_id: str, frame_idx: int) -> str:
        """Name a mask for an error message: source, video, expression, annotation and frame.

        Args:
            expression: of the data list, see ``BaseRefVOSDataset.load_data_list``.
            anno_id: the annotation.
            frame_idx: 0-based position in the video.
        """
        return (f'{self.path}: video {expression["video_id"]!r}, expression '
                f'{expression["exp_id"]!r}, anno {anno_id!r}, frame {frame_idx}')

    def __deepcopy__(self, memo: dict) -> 'MaskSource':
        """Return the source itself: it never changes, and subsets of a data set share it."""
        return self


class MaskStore(MaskSource):
    """Run-length masks of all annotations of a split, in ``mask_dict.json``.

    The file is checked once from front to back; kept are the places of the annotations in it.
    Masks are read from the file when they are asked for, and data-loading workers share the
    system's copy of it.

    Args:
        path: ``mask_dict.json``: ``{anno_id: [RLE or null, one per frame]}`` with
            RLE ``{'size': [H, W], 'counts': str}`` (COCO's compressed form).
        cache_size: number of annotations (each with all its frames) that are kept parsed.

    Raises:
        FileNotFoundError: the file cannot be opened.
        ValueError: it has not this layout; the message names the annotation and the frame.
    """

    def __init__(self, path: str | PathLike, cache_size: int = 16) -> None:
        super().__init__(str(path))
        self._tracks = JSONIndex(path, self._check_track, cache_size)

    def _check_track(self, anno_id: str, track: Any) -> int:
        """Check one annotation and return its number of frames."""
        where = f'{self.path}: anno {anno_id!r}'
        if not isinstance(track, list):
            raise ValueError(f'{where}: expected a list with one RLE or null per frame, got '
                             f'{type(track).__name__}')
        for frame_idx, rle in enumerate(track):
            if rle is not None:
                check_rle(rle, where, frame_idx)
        return len(track)

    def __contains__(self, anno_id: object) -> bool:
        return anno_id in self._tracks

    def __len__(self) -> int:
        return len(self._tracks)

    def num_frames(self, anno_id: str) -> int:
        """Number of frames for which ``anno_id`` has a mask or null."""
        return self._tracks.note(anno_id)

    def rles(self, expression: dict, frame_idx: int, size: tuple[int, int]) -> list[dict]:
        """Masks of one expression's objects on one frame; see :class:`MaskSource`."""
        found = []
        for anno_id in expression['anno_ids']:
            where = self.where(expression, anno_id, frame_idx)
            length = self.num_frames(anno_id) if anno_id in self else 0
            if not 0 <= frame_idx < length:
                raise ValueError(f'{where}: expected a mask or null, but anno {anno_id!r} has '
                                 f'{length} frames')
            rle = self._tracks[anno_id][frame_idx]
            if rle is None:
                continue
            check_size(rle, size, where)
            found.append({'size': list(rle['size']), 'counts': rle['counts']})
        return found

    def size(self, expression: dict) -> tuple[int, int] | None:
        """Size of the first mask of an expression's objects; see :class:`MaskSource`."""
        tracks = (self._tracks[anno_id] for anno_id in expression['anno_ids'] if anno_id in self)
        return next((tuple(rle['size']) for track in tracks for rle in track if rle), None)


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
        checked(1, cache_size=cache_size)
        self._cache: BoundedCache[tuple[tuple[int, int], dict[int, dict]]] = BoundedCache(
            cache_size)

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

        Returns:
            uint8 (H, W), 0 where there is none.

        Raises:
            ValueError: the image has the wrong mode.
        """

    def objects(self, path: str, where: str) -> tuple[tuple[int, int], dict[int, dict]]:
        """Read a file, or find it among those that are kept.

        Returns:
            Size ``(H, W)``, and the COCO RLE of each object that is visible.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is no PNG of the right mode, or is damaged.
        """
        return self._cache.get(path, lambda: self._read(path, where))

    def _read(self, path: str, where: str) -> tuple[tuple[int, int], dict[int, dict]]:
        indices = self.index_map(self._decode(path, where), f'{path} ({where})')
        # Counting would take as long as decoding where there is one object at most.
        highest = int(indices.max())
        present = range(highest + 1) if highest < 2 else np.flatnonzero(
            np.bincount(indices.ravel()))
        return indices.shape, {int(i): encode_mask(indices == i) for i in present if i}

    def size(self, expression: dict) -> tuple[int, int] | None:
        """Size of the first file that an expression has; see :class:`MaskSource`."""
        for anno_id in expression['anno_ids']:
            for frame_idx in range(len(expression['frame_names'])):
                path = self.file_of(expression, anno_id, frame_idx)
                if osp.lexists(path):
                    return self.objects(path, self.where(expression, anno_id, frame_idx))[0]
        return None

    def files(self, expression: dict) -> Iterator[str]:
        """Files of an expression's masks, those of all frames; see :class:`MaskSource`."""
        for anno_id in expression['anno_ids']:
            for frame_idx in range(len(expression['frame_names'])):
                yield self.file_of(expression, anno_id, frame_idx)

    @staticmethod
    def _decode(path: str, where: str) -> Image.Image:
        try:
            return decode_png(read_regular(path))
        except FileNotFoundError as error:
            raise FileNotFoundError(f'{where}: expected a PNG file with the mask, got nothing at '
                                    f'{path}') from error
        except DAMAGED as error:
            raise ValueError(f'{where}: expected a PNG file with the mask, but {path} cannot be '
                             f'decoded: {error}') from error

    def rles(self, expression: dict, frame_idx: int, size: tuple[int, int]) -> list[dict]:
        """Masks of one expression's objects on one frame; see :class:`MaskSource`."""
        found = []
        for anno_id in expression['anno_ids']:
            where = self.where(expression, anno_id, frame_idx)
            if not 0 <= frame_idx < len(expression['frame_names']):
                raise ValueError(f'{where}: expected a frame of the video, which has '
                                 f'{len(expression["frame_names"])}')
            path = self.file_of(expression, anno_id, frame_idx)
            if self._is_left_out(expression, path, frame_idx):
                continue
            shape, masks = self.objects(path, where)
            if tuple(shape) != tuple(size):
                raise ValueError(f'{where}: expected a mask of the size of the frame, (H, W) = '
                                 f'{tuple(size)}, got {tuple(shape)} in {path}')
            mask = masks.get(self._value_of(anno_id))
            if mask is None:
                self._check_absent(expression, anno_id, where)
            else:
                found.append(mask)
        return found

    def _is_left_out(self, expression: dict, path: str, frame_idx: int) -> bool:
        """Whether an object is not visible, whatever its file says; it need not be there then."""
        return False

    def _value_of(self, anno_id: str) -> int:
        """What the pixels of an object are worth in :meth:`index_map`."""
        return int(anno_id)

    def _check_absent(self, expression: dict, anno_id: str, where: str) -> None:
        """Raise ``ValueError`` if an object may not be absent from its file."""

    def __getstate__(self) -> dict:
        return dict(self.__dict__, _cache=BoundedCache(self._cache.max_size))


class BinaryMaskStore(PNGMaskStore):
    """``<path>/<anno_id>/<frame>.png``, in which any pixel that is not black is the object.

    Args:
        path, cache_size: see :class:`PNGMaskStore`.
        absent_is_empty: an object is not visible on a frame without a file; it is an error
            otherwise.
    """

    def __init__(self, path: str | PathLike, cache_size: int = 256,
                 absent_is_empty: bool = False) -> None:
        super().__init__(path, cache_size)
        self.absent_is_empty = absent_is_empty

    def file_of(self, expression: dict, anno_id: str, frame_idx: int) -> str:
        """Path of the file with the mask of an object on a frame; see the base class."""
        return osp.join(self.path, anno_id, f'{expression["frame_names"][frame_idx]}.png')

    def index_map(self, image: Image.Image, where: str) -> np.ndarray:
        """1 where the pixel is not black; see the base class."""
        if image.mode not in ('1', 'L', 'P'):
            raise ValueError(f'{where}: expected a PNG of mode 1, L or P, got mode {image.mode}')
        return (np.asarray(image.convert('L')) > 0).astype(np.uint8)

    def _is_left_out(self, expression: dict, path: str, frame_idx: int) -> bool:
        return self.absent_is_empty and not osp.lexists(path)

    def _value_of(self, anno_id: str) -> int:
        return 1


class PaletteMaskStore(PNGMaskStore):
    """``<path>/<video>/<frame>.png`` with the number of the object as palette index.

    255 means void, as in DAVIS, and belongs to no object. An object may be out of sight, but not
    on all frames: then it is none of the video's, and the annotation is wrong. Finding this out
    takes a look at other frames only where the object is not seen on the frame that is asked for.

    See :class:`PNGMaskStore` for the arguments.
    """

    def __init__(self, path: str | PathLike, cache_size: int = 256) -> None:
        super().__init__(path, cache_size)
        self._seen: set[tuple[str, str]] = set()

    def file_of(self, expression: dict, anno_id: str, frame_idx: int) -> str:
        """Path of the file with all objects of a frame; see the base class."""
        name = expression['frame_names'][frame_idx]
        return osp.join(self.path, expression['video_id'], f'{name}.png')

    def index_map(self, image: Image.Image, where: str) -> np.ndarray:
        """The palette indices; in any other mode numbers are lost. See the base class."""
        if image.mode != 'P':
            raise ValueError(f'{where}: expected a palette PNG (mode P) whose values are the '
                             f'numbers of the objects, got mode {image.mode}')
        return np.asarray(image)

    def _check_absent(self, expression: dict, anno_id: str, where: str) -> None:
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

    def _is_left_out(self, expression: dict, path: str, frame_idx: int) -> bool:
        first, last = expression['window']
        number = expression['frame_numbers'][frame_idx]
        return not first <= number <= last or not osp.lexists(path)


class COCOMasks(MaskSource):
    """A file ``{"images": [...], "annotations": [...], "categories": [...]}``, held in memory.

    Read are ``id``, ``file_name``, ``height`` and ``width`` of images, ``id``, ``image_id``,
    ``category_id`` and ``segmentation`` of annotations (polygons, run lengths, or compressed run
    lengths; also of crowds), ``id`` and ``name`` of categories.

    Args:
        path: the file.

    Raises:
        FileNotFoundError: it cannot be opened.
        ValueError: it has not this layout; the message names the entry.

    Attributes:
        images (dict[str, dict]): of each image ``file_name`` and ``shape`` ``(H, W)``.
        categories (dict[str, str]): names.
        annotations (dict[str, dict]): of each annotation ``image``, ``category`` and ``mask``.
    """

    def __init__(self, path: str | PathLike) -> None:
        super().__init__(str(path))
        content = read_json_object(path)
        self.images = {}
        for number, where, entry in self._entries(content, 'images'):
            name = get_field(entry, 'file_name', str, where)
            check_name(name, f"{where}, key 'file_name'", nested=True)
            shape = parse_shape(entry, where)
            if shape is None:
                raise ValueError(f"{where}: expected the keys 'height' and 'width', got neither")
            self.images[number] = dict(file_name=name, shape=shape)
        self.categories = {number: get_field(entry, 'name', str, where)
                           for number, where, entry in self._entries(content, 'categories')}
        self.annotations = {}
        for number, where, entry in self._entries(content, 'annotations'):
            image, category = (str(get_field(entry, key, int, where))
                               for key in ('image_id', 'category_id'))
            for key, value, known in (('image_id', image, self.images),
                                      ('category_id', category, self.categories)):
                if value not in known:
                    raise ValueError(f'{where}, key {key!r}: expected an id of the {len(known)} '
                                     f'in the file, got {value}')
            mask = _parse_segmentation(get_field(entry, 'segmentation', object, where), where,
                                       max(self.images[image]['shape']))
            self.annotations[number] = dict(image=image, category=category, mask=mask)

    def _entries(self, content: dict, key: str) -> list[tuple[str, str, dict]]:
        """Ids of the entries of a list, where each is, and the entries."""
        found, seen = [], set()
        for i, entry in enumerate(get_field(content, key, list, self.path)):
            where = f'{self.path}: {key} {i}'
            number = str(get_field(entry, 'id', int, where))
            if number in seen:
                raise ValueError(f"{where}, key 'id': expected unique ids, got {number} twice")
            seen.add(number)
            found.append((number, f'{where} (id {number})', entry))
        return found

    def rles(self, expression: dict, frame_idx: int, size: tuple[int, int]) -> list[dict]:
        """Masks of one expression's objects on the image; see :class:`MaskSource`."""
        found = []
        for anno_id in expression['anno_ids']:
            mask = self.annotations[anno_id]['mask']
            if isinstance(mask, list):  # polygons, which are united
                polygons = [polygon.tolist() for polygon in mask]
                found.append(merge_rles(coco_mask.frPyObjects(polygons, *size), size))
            else:
                found.append(merge_rles([mask], tuple(mask['size'])))
                check_size(found[-1], size, self.where(expression, anno_id, frame_idx))
        return found

    def size(self, expression: dict) -> tuple[int, int] | None:
        """Size of the image; see :class:`MaskSource`."""
        return self.images[expression['video_id']]['shape']


def _parse_segmentation(value: Any, where: str, side: int) -> list[np.ndarray] | dict:
    """Polygons as float arrays, which take less room than lists; or run lengths.

    A polygon may go over the edge of its image, whose longer side is ``side``, by that much: what
    is drawn takes time and memory with every pixel of its outline.
    """
    place = f"{where}, key 'segmentation'"
    if isinstance(value, dict):
        if isinstance(value.get('counts'), list):
            return compress_runs(value, place, 0)
        check_rle(value, place, 0)
        return value
    polygons = value if isinstance(value, list) else []
    for polygon in polygons:
        if not isinstance(polygon, list) or len(polygon) < 6 or len(polygon) % 2 or not all(
                type(number) in (int, float) and -side <= number <= 2 * side
                for number in polygon):
            polygons = []
    if not polygons:
        raise ValueError(f'{place}: expected run lengths, or polygons of at least 3 points [x, y, '
                         f'x, y, ...] of the image, got {str(value)[:60]}')
    return [np.array(polygon, dtype=np.float64) for polygon in polygons]
