"""Images, classes and masks of a COCO-format instance JSON."""

from os import PathLike
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from glus_mm.datasets.annotation_fields import check_name, get_field, parse_shape
from glus_mm.datasets.mask_source import MaskSource
from glus_mm.utils.json_file import read_json_object
from glus_mm.utils.masks import check_rle, check_size, compress_runs, merge_rles


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
        return [_as_rle(self.annotations[anno_id]['mask'], size,
                        self.where(expression, anno_id, frame_idx))
                for anno_id in expression['anno_ids']]

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


def _as_rle(mask: list[np.ndarray] | dict, size: tuple[int, int], where: str) -> dict:
    """COCO RLE of an annotation, its polygons united."""
    if isinstance(mask, list):
        return merge_rles(coco_mask.frPyObjects([p.tolist() for p in mask], *size), size)
    rle = merge_rles([mask], tuple(mask['size']))
    check_size(rle, size, where)
    return rle
