"""MeViS, and other data sets that are laid out like it."""

import os.path as osp
from functools import partial

from glus_mm.datasets.annotation_fields import get_field, parse_id, parse_ids, parse_kind
from glus_mm.datasets.base_ref_vos_dataset import BaseRefVOSDataset
from glus_mm.datasets.mask_sources import BinaryMaskStore, MaskStore
from glus_mm.datasets.moving_shapes.expressions import KINDS, VARIANT_KINDS
from glus_mm.registry import DATASETS
from glus_mm.utils.json_file import read_json_object


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
    MASKS = MaskStore
    TYPES: tuple[str, ...] = ()
    """Kinds of expressions by ``type_id``, where the data set has that in place of ``kind``."""
    TYPES_REQUIRED: bool = True

    def parse_target(self, exp_id: str, entry: dict, video: dict, where: str) -> dict:
        """Parse ``obj_id``, ``anno_id`` and ``kind``; see the base class."""
        required = self.masks is not None
        object_ids = parse_ids(entry, 'obj_id', where, required)
        anno_ids = parse_ids(entry, 'anno_id', where, required)
        if required and len(object_ids) != len(anno_ids):
            raise ValueError(f"{where}: expected one 'anno_id' per 'obj_id', got obj_id "
                             f'{list(object_ids)} and anno_id {list(anno_ids)}')
        num_frames = len(video['frame_names'])
        for anno_id in anno_ids if required else ():
            if anno_id not in self.masks:
                raise ValueError(f'{where}: expected the masks of anno {anno_id!r} in '
                                 f'{self.masks.path}, got none')
            if self.masks.num_frames(anno_id) != num_frames:
                raise ValueError(f"{where}: expected {num_frames} masks (as in 'frames') for anno "
                                 f'{anno_id!r} in {self.masks.path}, got '
                                 f'{self.masks.num_frames(anno_id)}')
        return dict(object_ids=object_ids, anno_ids=anno_ids, kind=self.parse_kind(entry, where))

    def parse_kind(self, entry: dict, where: str) -> str | None:
        """The kind of an expression, where the data set has kinds.

        Args:
            entry: the expression's entry.
            where: named in an error.

        Raises:
            ValueError: ``type_id`` is missing where it is required, or has no kind.
        """
        if not self.TYPES:
            return parse_kind(entry, where)
        if 'type_id' not in entry and not self.TYPES_REQUIRED:
            return None
        type_id = get_field(entry, 'type_id', int, where)
        if not 0 <= type_id < len(self.TYPES):
            raise ValueError(f"{where}, key 'type_id': expected 0 to {len(self.TYPES) - 1}, got "
                             f'{type_id}')
        return self.TYPES[type_id]


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


@DATASETS.register_module()
class ReVOSDataset(MeViSDataset):
    """A split of ReVOS (https://github.com/cilinyan/ReVOS-api) in its official layout.

    ::

        data_root/
          meta_expressions_train_.json   as MeViS's, and "type_id" of an expression
          meta_expressions_valid_.json
          mask_dict.json                 of both splits
          JPEGImages/<video>/<frame>.jpg

    The kind of an expression is 'referring' (``type_id`` 0), 'reason' (1) or 'hallucination' (2,
    which has no target). The id of a video may have several parts, as in ``UVO/all/<id>``: it is a
    path below ``JPEGImages``.

    ``mask_dict_foreground.json``, which the official robustness score reads, holds the union of the
    masks of a video's expressions; a test sample has those, so that it is not read here. For the
    arguments and errors see :class:`BaseRefVOSDataset`; the defaults are those of ``train``.
    """

    METAINFO: dict = dict(dataset='revos')
    KINDS: tuple[str, ...] = ('referring', 'reason', 'hallucination')
    TYPES: tuple[str, ...] = KINDS
    ANN_FILE: str = 'meta_expressions_train_.json'
    NESTED_VIDEO_IDS: bool = True


@DATASETS.register_module()
class RefSAVDataset(MeViSDataset):
    """The validation split of Ref-SAV (https://github.com/magic-research/Sa2VA), in MeViS's form.

    ::

        data_root/
          meta_expressions_valid.json   as MeViS's, and "type_id" of an expression, where it has one
          mask_dict.json
          videos/<video>/<frame>.jpg

    The kind of an expression is 'long' (``type_id`` 0) or 'short' (1), where the annotation says
    so. For the arguments and errors see :class:`BaseRefVOSDataset`.
    """

    METAINFO: dict = dict(dataset='ref_sav')
    ANN_FILE: str = 'meta_expressions_valid.json'
    DATA_PREFIX: dict = dict(img='videos', mask='mask_dict.json')
    TYPES: tuple[str, ...] = ('long', 'short')
    TYPES_REQUIRED: bool = False


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
    # All frames of some objects: the expressions of an object come one after the other.
    MASKS = partial(BinaryMaskStore, cache_size=4096, absent_is_empty=True)

    def parse_target(self, exp_id: str, entry: dict, video: dict, where: str) -> dict:
        """Parse ``obj_id`` and ``type``; see the base class."""
        object_id = parse_id(entry, 'obj_id', where)
        kind = get_field(entry, 'type', str, where)
        if not kind:
            raise ValueError(f"{where}, key 'type': expected text, got ''")
        anno_ids: tuple[str, ...] = ()
        if self.masks is not None:
            folder = self.check_mask_folder(video['video_id'], where)
            anno_ids = (osp.join(folder, object_id), )
        return dict(object_ids=(object_id, ), anno_ids=anno_ids, kind=kind,
                    frame_names=video['frame_names'])


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
