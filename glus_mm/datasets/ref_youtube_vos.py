"""Ref-YouTube-VOS and LV-VIS."""


from glus_mm.datasets.annotation_fields import (
    parse_kind,
    parse_palette_index,
)
from glus_mm.datasets.base_ref_vos_dataset import BaseRefVOSDataset
from glus_mm.datasets.mask_sources import PaletteMaskStore
from glus_mm.datasets.mevis import MeViSDataset
from glus_mm.registry import DATASETS


@DATASETS.register_module()
class RefYouTubeVOSDataset(BaseRefVOSDataset):
    """A split of Ref-YouTube-VOS (https://youtube-vos.org/dataset/rvos/) in its official layout.

    ::

        data_root/
          meta_expressions/<split>/meta_expressions.json
                {"videos": {video: {"frames": [...],
                                    "expressions": {id: {"exp": ..., "obj_id": "1"}}}}}
          <split>/JPEGImages/<video>/<frame>.jpg
          <split>/Annotations/<video>/<frame>.png     palette index = obj_id; train only

    The defaults are those of ``train``. The annotation of ``valid`` lists the videos of ``test``,
    too; the server wants the other ones, 202 of them::

        RefYouTubeVOSDataset(
            data_root='data/Refer-YouTube-VOS', test_mode=True, min_frames=4,
            ann_file='meta_expressions/valid/meta_expressions.json',
            exclude_ann_file='meta_expressions/test/meta_expressions.json',
            data_prefix=dict(img='valid/JPEGImages', mask='valid/Annotations'))

    For the arguments and errors see :class:`BaseRefVOSDataset`.
    """

    METAINFO: dict = dict(dataset='ref_youtube_vos')
    ANN_FILE: str = 'meta_expressions/train/meta_expressions.json'
    DATA_PREFIX: dict = dict(img='train/JPEGImages', mask='train/Annotations')
    MASKS = PaletteMaskStore

    def parse_target(self, exp_id: str, entry: dict, video: dict, where: str) -> dict:
        """Parse ``obj_id``, which is the palette index, too; see the base class."""
        ids: tuple[str, ...] = ()
        if self.masks is not None or 'obj_id' in entry:
            ids = (parse_palette_index(entry, 'obj_id', where), )
        if self.masks is not None:
            self.check_mask_folder(video['video_id'], where)
        return dict(object_ids=ids, anno_ids=ids, kind=parse_kind(entry, where),
                    frame_names=video['frame_names'])


@DATASETS.register_module()
class LVVISDataset(MeViSDataset):
    """The training split of LV-VIS (https://github.com/haochenheheda/LVVIS) with expressions.

    The expressions and masks are those that the authors of VISA publish, in MeViS's form::

        data_root/
          meta_expressions.json
          mask_dict.json
          train/JPEGImages/<video>/<frame>.jpg

    It serves for training only. For the arguments and errors see :class:`BaseRefVOSDataset`.
    """

    METAINFO: dict = dict(dataset='lv_vis')
    DATA_PREFIX: dict = dict(img='train/JPEGImages', mask='mask_dict.json')
