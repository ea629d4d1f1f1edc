"""Long-RVOS."""

import os.path as osp

from glus_mm.datasets.annotation_fields import check_name, get_field, parse_ids
from glus_mm.datasets.base_ref_vos_dataset import BaseRefVOSDataset
from glus_mm.datasets.mask_sources import BinaryMaskStore, MaskSource
from glus_mm.registry import DATASETS


@DATASETS.register_module()
class LongRVOSDataset(BaseRefVOSDataset):
    """A split of Long-RVOS (https://github.com/iSEE-Laboratory/Long_RVOS) in its official layout.

    ::

        data_root/
          meta_expressions.json   {"videos": {video: {"frames": [...], "expressions": {id:
                                  {"exp": ..., "obj_id": 1, "type": "static"}}}}}
          JPEGImages/<video>/<frame>.jpg
          Annotations/<video>/<obj_id>/<frame>.png    not black = object

    A frame on which an object is not visible has no file, and an object that is never visible no
    folder. The kind of an expression is its ``type``: 'static', 'dynamic' or 'static+dynamic',
    which the paper and the figures call hybrid.

    For the arguments and errors see :class:`BaseRefVOSDataset`.
    """

    METAINFO: dict = dict(dataset='long_rvos')
    DATA_PREFIX: dict = dict(img='JPEGImages', mask='Annotations')

    def open_masks(self, videos: dict) -> MaskSource | None:
        """Find the folder of the masks, where there is one; see the base class."""
        path = self.data_prefix['mask']
        if not self.has_masks(path, osp.isdir(path)):
            return None
        # All frames of some objects: the expressions of an object come one after the other.
        return BinaryMaskStore(path, cache_size=4096, absent_is_empty=True)

    def parse_target(self, exp_id: str, entry: dict, video: dict, where: str) -> dict:
        """Parse ``obj_id`` and ``type``; see the base class."""
        obj_id = get_field(entry, 'obj_id', object, where)
        object_ids = parse_ids(dict(obj_id=[obj_id]), 'obj_id', where)
        check_name(object_ids[0], f"{where}, key 'obj_id'")
        kind = get_field(entry, 'type', str, where)
        if not kind:
            raise ValueError(f"{where}, key 'type': expected text, got ''")
        anno_ids: tuple[str, ...] = ()
        if self.masks is not None:
            folder = osp.join(self.masks.path, video['video_id'])
            if not osp.isdir(folder):
                raise FileNotFoundError(f'{where}: expected the masks of the video in the folder '
                                        f'{folder}, got no such folder')
            anno_ids = (osp.join(video['video_id'], object_ids[0]), )
        return dict(object_ids=object_ids, anno_ids=anno_ids, kind=kind,
                    frame_names=video['frame_names'])
