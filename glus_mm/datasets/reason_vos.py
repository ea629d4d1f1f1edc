"""ReasonVOS."""

import os.path as osp
from typing import Any

from glus_mm.datasets.annotation_fields import check_name, check_unique, get_field, parse_ids
from glus_mm.datasets.base_ref_vos_dataset import BaseRefVOSDataset
from glus_mm.datasets.mask_sources import BinaryMaskStore, MaskSource
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

    def open_masks(self, videos: dict) -> MaskSource | None:
        """Find the folder of the masks, where there is one; see the base class."""
        if not self.test_mode:
            raise ValueError(f'{self.ann_file}: expected test_mode=True, as ReasonVOS is a '
                             f'benchmark without a training split, got False')
        path = self.data_prefix['mask']
        return BinaryMaskStore(path) if self.has_masks(path, osp.isdir(path)) else None

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
        return dict(source=source)

    def parse_target(self, exp_id: str, entry: dict, video: dict, where: str) -> dict:
        """Parse ``obj_id`` and find the folder of the masks; see the base class."""
        obj_id = get_field(entry, 'obj_id', object, where)
        object_ids = parse_ids(dict(obj_id=[obj_id]), 'obj_id', where)
        check_name(object_ids[0], f"{where}, key 'obj_id'")
        anno_ids: tuple[str, ...] = ()
        if self.masks is not None:
            anno_ids = (self._mask_folder(video, object_ids[0], where), )
        return dict(object_ids=object_ids, anno_ids=anno_ids, kind=None,
                    frame_names=video['frame_names'])

    def _mask_folder(self, video: dict, object_id: str, where: str) -> str:
        source = video['source']
        names = [f'{name}_{video["video_id"]}_{object_id}' for name in (source, source.lower())]
        for name in names:
            if osp.isdir(osp.join(self.masks.path, name)):
                return name
        raise FileNotFoundError(f'{where}: expected the masks of object {object_id!r} in the '
                                f'folder {osp.join(self.masks.path, names[0])}, got no such '
                                f'folder')
