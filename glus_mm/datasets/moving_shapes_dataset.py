"""MovingShapes, the embedded data set."""

import os.path as osp

from glus_mm.datasets.mevis import MeViSDataset
from glus_mm.datasets.moving_shapes.expressions import KINDS, VARIANT_KINDS
from glus_mm.registry import DATASETS
from glus_mm.utils.json_file import read_json_object


@DATASETS.register_module()
class MovingShapesDataset(MeViSDataset):
    """A split written by ``tools/dataset_converters/moving_shapes.py``: MeViS's layout.

    Every expression has a ``kind``, and every video its ``height`` and ``width``. Beside the
    annotation lies ``objects.json``, what each object looks like and when it flashes; where it is
    there, the items have it as ``objects``, see :class:`LoadObjects`.
    """

    METAINFO: dict = dict(dataset='moving_shapes')
    KINDS: tuple[str, ...] = (*KINDS, *VARIANT_KINDS)

    def load_data_list(self) -> list[dict]:
        """Add what the objects look like; see the base class."""
        videos = super().load_data_list()
        path = osp.join(osp.dirname(self.ann_file), 'objects.json')
        if osp.isfile(path):
            objects = read_json_object(path)
            for video in videos:
                if video['video_id'] in objects:
                    video['objects'] = objects[video['video_id']]
        return videos
