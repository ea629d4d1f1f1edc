"""RefCOCO, RefCOCO+ and RefCOCOg, and the classes of COCO."""

import os.path as osp
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from mmengine.config import Config

from glus_mm.datasets.annotation_fields import get_field
from glus_mm.datasets.base_image_dataset import BaseImageDataset
from glus_mm.datasets.mask_sources import COCOMasks
from glus_mm.registry import DATASETS
from glus_mm.utils.json_file import read_json_list
from glus_mm.utils.plain_pickle import read_plain_pickle


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
        sentences: list[Any] = get_field(ref, 'sentences', list, where)
        for sentence in sentences:
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
