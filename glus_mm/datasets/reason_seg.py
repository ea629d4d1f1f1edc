"""ReasonSeg."""

import json
import os
import os.path as osp
from collections.abc import Iterable

import cv2
import numpy as np

from glus_mm.datasets.annotation_fields import get_field
from glus_mm.datasets.base_image_dataset import BaseImageDataset
from glus_mm.datasets.mask_sources import MaskSource
from glus_mm.registry import DATASETS
from glus_mm.utils.json_file import unique_pairs
from glus_mm.utils.masks import encode_mask

# Pixels; a point that is farther away, or not finite, is none of an image.
_FARTHEST = 100_000


@DATASETS.register_module()
class ReasonSegDataset(BaseImageDataset):
    """A split of ReasonSeg, in its official layout.

    ::

        data_root/
          train/<image>.jpg
          train/<image>.json     {"text": [...], "is_sentence": bool,
                                  "shapes": [{"label": "target", "points": [[x, y], ...]}]}

    One item is one image; its texts mean the same mask, which is drawn as LISA does: polygons from
    large to small, each over those before; ``target`` is the mask, what ``ignore`` covers is not,
    in training as in LISA's. ``flag`` is skipped. When testing, ignored regions count as background
    here, whereas LISA leaves them out, so that its figures are not comparable to the digit.

    For the arguments and errors see :class:`BaseImageDataset`; ``ann_file`` is the folder.
    """

    METAINFO: dict = dict(dataset='reason_seg')
    ANN_FILE: str = 'train'
    DATA_PREFIX: dict = {}
    TEXT_KEY: str = 'text'

    def read_images(self) -> Iterable[dict]:
        """Read all files of the folder; see the base class."""
        folder = self.ann_file
        try:
            names = sorted(name for name in os.listdir(folder) if name.endswith('.json'))
        except OSError as error:
            raise FileNotFoundError(f'expected a folder with images and JSON files at {folder}, '
                                    f'got {error}') from error
        self.masks = _PolygonMasks(folder)
        images = []
        for name in names:
            path = osp.join(folder, name)
            content = _read_json(path)
            texts = get_field(content, 'text', list, path)
            if not texts:
                raise ValueError(f"{path}: expected at least one text in 'text', got none")
            image_id = osp.splitext(name)[0]
            self.masks.polygons[image_id] = _parse_shapes(content, path)
            images.append(dict(
                image_id=image_id, where=path, shape=None,
                path=osp.join(folder, f'{image_id}.jpg'),
                expressions=[dict(exp_id=str(i), exp=self.text_of(text, path),
                                  object_ids=('target', ), anno_ids=('target', ))
                             for i, text in enumerate(texts)]))
        return images


class _PolygonMasks(MaskSource):
    """Polygons of all images: lists of pairs, whether a target, and points (M, 2)."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.polygons: dict[str, list[tuple[bool, np.ndarray]]] = {}

    def rles(self, expression: dict, frame_idx: int, size: tuple[int, int]) -> list[dict]:
        """The mask of an image; see :class:`MaskSource`."""
        polygons = self.polygons[expression['video_id']]
        drawn = [_draw(points, np.zeros(size, np.uint8), 1) for _, points in polygons]
        mask = np.zeros(size, dtype=np.uint8)
        for i in np.argsort([int(shape.sum()) for shape in drawn])[::-1]:
            target, points = polygons[i]
            _draw(points, mask, int(target))
        return [encode_mask(mask)]


def _draw(points: np.ndarray, mask: np.ndarray, value: int) -> np.ndarray:
    """Fill a polygon and its outline, in place."""
    cv2.polylines(mask, [points], True, value, 1)
    return cv2.fillPoly(mask, [points], value)


def _read_json(path: str) -> dict:
    with open(path, 'rb') as file:
        data = file.read()
    try:
        text = data.decode('utf-8')
    except UnicodeDecodeError:
        text = data.decode('cp1252', 'replace')  # some of the official files
    try:
        return json.loads(text, object_pairs_hook=unique_pairs)
    except (ValueError, RecursionError) as error:
        raise ValueError(f'{path}: expected a JSON file, got one that fails with: {error}') \
            from error


def _parse_shapes(content: dict, path: str) -> list[tuple[bool, np.ndarray]]:
    polygons = []
    for i, shape in enumerate(get_field(content, 'shapes', list, path)):
        where = f"{path}, key 'shapes', entry {i}"
        label = get_field(shape, 'label', str, where).lower()
        if label == 'flag':
            continue
        points = get_field(shape, 'points', list, where)
        if not points or not all(
                isinstance(point, list) and len(point) == 2
                and all(type(number) in (int, float) and abs(number) <= _FARTHEST
                        for number in point) for point in points):
            raise ValueError(f"{where}, key 'points': expected a list of points [x, y], each at "
                             f'most {_FARTHEST} pixels away, got {str(points)[:60]}')
        polygons.append(('ignore' not in label, np.array(points).astype(np.int32)))
    if not any(target for target, _ in polygons):
        raise ValueError(f"{path}, key 'shapes': expected a polygon with the label 'target', got "
                         'none')
    return polygons
