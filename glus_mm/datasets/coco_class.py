"""Names of classes as expressions."""

import os.path as osp
from collections.abc import Iterable

from glus_mm.datasets.base_image_dataset import BaseImageDataset
from glus_mm.datasets.mask_sources import COCOMasks
from glus_mm.registry import DATASETS


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
