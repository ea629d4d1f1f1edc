"""Data sets of images, as videos of one frame: RefCOCO, the classes of COCO, ReasonSeg."""

import json
import os
import os.path as osp
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence

import cv2
import numpy as np
from mmengine.config import Config

from glus_mm.datasets.annotation_fields import get_field, parse_text
from glus_mm.datasets.base_ref_vos_dataset import BaseRefVOSDataset
from glus_mm.datasets.mask_sources import COCOMasks, MaskSource
from glus_mm.registry import DATASETS
from glus_mm.utils.json_file import read_json_list, unique_pairs
from glus_mm.utils.masks import encode_mask
from glus_mm.utils.plain_pickle import read_plain_pickle

# Pixels; a point that is farther away, or not finite, is none of an image.
_FARTHEST = 100_000


class BaseImageDataset(BaseRefVOSDataset):
    """Images as videos of one frame, so that they are mixed with videos.

    A training sample repeats the frame: all context and query frames of
    ``SampleContextQueryFrames`` are the image, and each turn asks about it again. The number of
    frames has to be that of the other videos in the batch, and the losses are finite; the image is
    read once, and each encoder sees it once, so that a sample costs the tokens of a video in the
    LLM, and its query frames in the mask decoder.

    When testing, the image is one frame. J of ``RefVOSMetric`` is then the IoU of an expression,
    and its mean what LISA calls gIoU.

    For the arguments see :class:`BaseRefVOSDataset`, whose videos are images here, so that
    ``exclude_ann_file`` and ``min_frames`` are of no use. ``metainfo`` has the data set's name in
    the data samples, which several files of one layout should not share.

    Raises:
        FileNotFoundError: a file is missing; images are looked for when an item is read.
        ValueError: an argument is out of its range, or the files are not as they should be; the
            message names file and entry.
    """

    @abstractmethod
    def read_images(self) -> Iterable[dict]:
        """Read the annotation, and set ``self.masks``.

        Returns:
            For each image ``image_id``, ``path``, ``shape`` (``(H, W)`` or None), ``where`` (file
            and entry, for errors) and ``expressions``, as ``load_data_list`` returns them but for
            ``video_id`` and ``kind``.
        """

    def load_data_list(self) -> list[dict]:
        """Parse the annotation; see the base class.

        Raises:
            ValueError: there is no image.
        """
        videos = [dict(
            dataset=self._metainfo['dataset'],
            video_id=image['image_id'],
            entry=image['where'],
            frame_names=(osp.splitext(osp.basename(image['path']))[0], ),
            img_paths=[image['path']],
            ori_shape=image['shape'],
            expressions=[dict(item, video_id=image['image_id'], kind=None)
                         for item in image['expressions']]) for image in self.read_images()]
        if not videos:
            raise ValueError(f'{self.ann_file}: expected at least one image with an expression, '
                             'got none')
        return videos

    def text_of(self, text: object, where: str) -> str:
        """Return the text of an expression if it can be one, else raise a ``ValueError``."""
        return parse_text({self.TEXT_KEY: text}, self.TEXT_KEY, where)


@DATASETS.register_module()
class RefCOCODataset(BaseImageDataset):
    """A split of RefCOCO, RefCOCO+ or RefCOCOg, as published for the REFER toolbox.

    ::

        data_root/
          refcoco/refs(unc).p        a pickle: [{"ref_id", "ann_id", "image_id", "split",
                                     "sentences": [{"sent_id", "sent"}]}]
          refcoco/instances.json     COCO format
          images/mscoco/images/train2014/COCO_train2014_<image>.jpg

    The pickle is read without running anything in it
    (:func:`glus_mm.utils.plain_pickle.read_plain_pickle`); a JSON file of the same content, named
    ``*.json``, will do as well. One item is one image with all expressions of the split.

    Args:
        data_root: folder that relative paths of ``ann_file`` and ``data_prefix`` start from.
        ann_file: the file with the expressions; ``refcoco+/refs(unc).p``, ``refcocog/refs(umd).p``
            and ``refcocog/refs(google).p`` are the others.
        data_prefix: folder of the images (``'img'``), file of the masks (``'mask'``).
        split: which ``split`` of the file: ``train``, ``val``, ``testA``, ``testB`` or ``test``.
        pipeline, test_mode, metainfo, indices, serialize_data, lazy_init, seed: see the base class.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: the files are not as they should be, or disagree; the message names file and
            entry.
    """

    METAINFO: dict = dict(dataset='refcoco')
    ANN_FILE: str = 'refcoco/refs(unc).p'
    DATA_PREFIX: dict = dict(img='images/mscoco/images/train2014', mask='refcoco/instances.json')
    TEXT_KEY: str = 'sent'

    def __init__(self,
                 data_root: str = '',
                 ann_file: str | None = None,
                 data_prefix: Mapping[str, str] | None = None,
                 split: str = 'train',
                 pipeline: Sequence[dict | Callable] = (),
                 test_mode: bool = False,
                 metainfo: Mapping | Config | None = None,
                 indices: int | Sequence[int] | None = None,
                 serialize_data: bool = True,
                 lazy_init: bool = False,
                 seed: int = 0) -> None:
        self.split = split
        super().__init__(
            data_root=data_root, ann_file=ann_file, data_prefix=data_prefix, pipeline=pipeline,
            test_mode=test_mode, metainfo=metainfo, indices=indices,
            serialize_data=serialize_data, lazy_init=lazy_init, seed=seed)

    def read_images(self) -> Iterable[dict]:
        """Read the expressions and ``instances.json``; see the base class."""
        json_file = self.ann_file.endswith('.json')
        refs = (read_json_list if json_file else read_plain_pickle)(self.ann_file)
        if not isinstance(refs, list):
            raise ValueError(f'{self.ann_file}: expected a list, got {type(refs).__name__}')
        self.masks = COCOMasks(self.data_prefix['mask'])
        images: dict[str, dict] = {}
        splits: set[str] = set()
        for i, ref in enumerate(refs):
            where = f'{self.ann_file}: entry {i}'
            splits.add(get_field(ref, 'split', str, where))
            if ref['split'] == self.split:
                self._add(ref, where, images)
        if not images:
            raise ValueError(f'{self.ann_file}: expected expressions of split {self.split!r}, got '
                             f'those of {sorted(splits)}')
        return images.values()

    def _add(self, ref: dict, where: str, images: dict[str, dict]) -> None:
        """Add the expressions of one object to those of its image."""
        where += f' (ref_id {get_field(ref, "ref_id", int, where)})'
        image_id, anno_id = (str(get_field(ref, key, int, where)) for key in ('image_id', 'ann_id'))
        for key, value, known in (('image_id', image_id, self.masks.images),
                                  ('ann_id', anno_id, self.masks.annotations)):
            if value not in known:
                raise ValueError(f'{where}, key {key!r}: expected one of the {len(known)} in '
                                 f'{self.masks.path}, got {value}')
        other = self.masks.annotations[anno_id]['image']
        if other != image_id:
            raise ValueError(f"{where}, key 'ann_id': expected an annotation of image {image_id}, "
                             f'got {anno_id}, which {self.masks.path} has on image {other}')
        image = self.masks.images[image_id]
        entry = images.setdefault(image_id, dict(
            image_id=image_id, where=where, shape=image['shape'], expressions=[],
            path=osp.join(self.data_prefix['img'], image['file_name'])))
        for sentence in get_field(ref, 'sentences', list, where):
            exp_id = str(get_field(sentence, 'sent_id', int, where))
            text = self.text_of(get_field(sentence, 'sent', str, where), where)
            entry['expressions'].append(dict(
                exp_id=exp_id, exp=text, object_ids=(anno_id, ), anno_ids=(anno_id, )))


@DATASETS.register_module()
class COCOClassDataset(BaseImageDataset):
    """Images of a COCO-format instance JSON, with the names of their classes as expressions.

    ::

        data_root/
          annotations/instances_train2017.json
          train2017/<file_name>

    One item is one image; an expression is the name of a class in it, and its objects, all of them
    united, are what the file has of this class. So semantic segmentation becomes referring
    segmentation, as in LISA. Label maps (ADE20K, COCO-Stuff) are brought into this format by
    ``tools/dataset_converters/label_maps.py``. Images without annotations are left out.

    For the arguments and errors see :class:`BaseImageDataset`.
    """

    METAINFO: dict = dict(dataset='coco')
    ANN_FILE: str = 'annotations/instances_train2017.json'
    DATA_PREFIX: dict = dict(img='train2017')
    TEXT_KEY: str = 'name'

    def read_images(self) -> Iterable[dict]:
        """Read the file; see the base class."""
        self.masks = COCOMasks(self.ann_file)
        names = {category: self.text_of(name, f'{self.ann_file}: category {category}')
                 for category, name in self.masks.categories.items()}
        found: dict[str, dict[str, list[str]]] = {}
        for anno_id, annotation in self.masks.annotations.items():
            classes = found.setdefault(annotation['image'], {})
            classes.setdefault(annotation['category'], []).append(anno_id)
        return [dict(
            image_id=image_id, where=f'{self.ann_file}: image {image_id}', shape=image['shape'],
            path=osp.join(self.data_prefix['img'], image['file_name']),
            expressions=[dict(exp_id=category, exp=names[category], object_ids=tuple(anno_ids),
                              anno_ids=tuple(anno_ids))
                         for category, anno_ids in found[image_id].items()])
                for image_id, image in self.masks.images.items() if image_id in found]


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
