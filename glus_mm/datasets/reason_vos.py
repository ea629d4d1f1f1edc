"""ReasonVOS."""

import os.path as osp
from typing import Any

from glus_mm.datasets.annotation_fields import check_name, check_unique, get_field, parse_id
from glus_mm.datasets.base_ref_vos_dataset import BaseRefVOSDataset
from glus_mm.datasets.mask_sources import BinaryMaskStore
from glus_mm.registry import DATASETS


@DATASETS.register_module()
class ReasonVOSDataset(BaseRefVOSDataset):
    """ReasonVOS (https://github.com/showlab/VideoLISA) in its official layout.

    ::

        data_root/
          meta_expressions.json
                {"videos": {video: {"source": ..., "frames": [...], "expressions": [
                    {"exp_text": ..., "obj_id": 0, "exp_id": 0}]}}}
          JPEGImages/<video>/<frame>.jpg
          Annotations/<source>_<video>_<obj_id>/<frame>.png    not black = object

    Frames stay in the order of the annotation. The id of an expression is its ``exp_id``, after
    which the official evaluation looks for predictions, and its place in the list where it has
    none. The folder with the masks may have the source's name in lower case.

    It serves for testing only: ``test_mode`` must be True. For the arguments and errors see
    :class:`BaseRefVOSDataset`.
    """

    METAINFO: dict = dict(dataset='reason_vos')
    DATA_PREFIX: dict = dict(img='JPEGImages', mask='Annotations')
    TEXT_KEY: str = 'exp_text'
    MASKS = BinaryMaskStore
    TEST_ONLY: str = 'ReasonVOS is a benchmark without a training split'

    def expression_items(self, video: dict, where: str) -> list[tuple[str, Any]]:
        """Ids and entries of a video's expressions, which are a list, or a dict with ids.

        Raises:
            ValueError: an id is no number.
        """
        if isinstance(video.get('expressions'), dict):
            return super().expression_items(video, where)
        entries = get_field(video, 'expressions', list, where)
        items = []
        for place, entry in enumerate(entries):
            exp_id = place
            if isinstance(entry, dict) and 'exp_id' in entry:
                exp_id = entry['exp_id']
            if type(exp_id) not in (int, str):
                raise ValueError(f"{where}, expression {place} of the list, key 'exp_id': "
                                 f'expected a number, got {exp_id!r:.80}')
            items.append((str(exp_id), entry))
        check_unique([exp_id for exp_id, _ in items], f"{where}, key 'exp_id' of its expressions")
        return items

    def parse_video(self, entry: dict, where: str) -> dict:
        """Parse ``source``, after which the folders of the masks are named; see the base class."""
        source = get_field(entry, 'source', str, where)
        check_name(source, f"{where}, key 'source'")
        return dict(mask_source=source)

    def parse_target(self, exp_id: str, entry: dict, video: dict, where: str) -> dict:
        """Parse ``obj_id`` and find the folder of the masks; see the base class."""
        object_id, source = parse_id(entry, 'obj_id', where), video['mask_source']
        anno_ids: tuple[str, ...] = ()
        if self.masks is not None:
            names = [f'{name}_{video["video_id"]}_{object_id}'
                     for name in (source, source.lower())]
            found = next((name for name in names
                          if osp.isdir(osp.join(self.masks.path, name))), names[0])
            anno_ids = (self.check_mask_folder(found, where), )
        return dict(object_ids=(object_id, ), anno_ids=anno_ids, kind=None,
                    frame_names=video['frame_names'])
