"""MeViS, and every other data set that is laid out like it."""

import os.path as osp

from glus_mm.datasets.annotation_fields import parse_ids, parse_kind
from glus_mm.datasets.base_ref_vos_dataset import BaseRefVOSDataset
from glus_mm.datasets.mask_sources import MaskStore
from glus_mm.registry import DATASETS


@DATASETS.register_module()
class MeViSDataset(BaseRefVOSDataset):
    """A split of MeViS (https://henghuiding.github.io/MeViS/) in its official layout.

    ::

        data_root/
          meta_expressions.json   {"videos": {video: {"frames": [...], "expressions": {id:
                                  {"exp": ..., "obj_id": [...], "anno_id": [...]}}}}}
          mask_dict.json          {anno_id: [RLE or null per frame]}; train and valid_u only
          JPEGImages/<video>/<frame>.jpg

    Optional and read where present: ``height`` and ``width`` of a video, ``kind`` of an
    expression. Without masks (``valid``) ``obj_id`` and ``anno_id`` may be missing, and the items
    have no ground truth; that needs ``test_mode=True``. An expression without objects refers to
    nothing.

    For the arguments and errors see :class:`BaseRefVOSDataset`.
    """

    METAINFO: dict = dict(dataset='mevis')

    def open_masks(self, videos: dict) -> MaskStore | None:
        """Read ``mask_dict.json``, where there is one; see the base class."""
        path = self.data_prefix['mask']
        return MaskStore(path) if self.has_masks(path, osp.isfile(path)) else None

    def parse_target(self, exp_id: str, entry: dict, video: dict, where: str) -> dict:
        """Parse ``obj_id``, ``anno_id`` and ``kind``; see the base class."""
        required = self.masks is not None
        object_ids = parse_ids(entry, 'obj_id', where, required)
        anno_ids = parse_ids(entry, 'anno_id', where, required)
        if required:
            self._check_masks(object_ids, anno_ids, len(video['frame_names']), where)
        return dict(object_ids=object_ids, anno_ids=anno_ids, kind=self.parse_kind(entry, where))

    def parse_kind(self, entry: dict, where: str) -> str | None:
        """The kind of an expression, where the data set has kinds."""
        return parse_kind(entry, where)

    def _check_masks(self, object_ids: tuple[str, ...], anno_ids: tuple[str, ...],
                     num_frames: int, where: str) -> None:
        if len(object_ids) != len(anno_ids):
            raise ValueError(f"{where}: expected one 'anno_id' per 'obj_id', got obj_id "
                             f'{list(object_ids)} and anno_id {list(anno_ids)}')
        for anno_id in anno_ids:
            if anno_id not in self.masks:
                raise ValueError(f'{where}: expected the masks of anno {anno_id!r} in '
                                 f'{self.masks.path}, got none')
            if self.masks.num_frames(anno_id) != num_frames:
                raise ValueError(f"{where}: expected {num_frames} masks (as in 'frames') for anno "
                                 f'{anno_id!r} in {self.masks.path}, got '
                                 f'{self.masks.num_frames(anno_id)}')


@DATASETS.register_module()
class MeViSv2Dataset(MeViSDataset):
    """A split of MeViSv2 (``train``, ``valid_u``, ``valid``).

    An assumption, made without an official file at hand: the layout is that of MeViS (see
    :class:`MeViSDataset`), and an expression without a target has empty lists as ``obj_id`` and
    ``anno_id``. What else an expression has there, such as its audio, is not read. Should the
    official files differ, this class is the place to change.

    Expressions without a target are trained on with empty masks, and score in N-acc and T-acc.
    """

    METAINFO: dict = dict(dataset='mevis_v2')
