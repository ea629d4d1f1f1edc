"""Ref-DAVIS17."""

import os.path as osp
from typing import Any

from glus_mm.datasets.annotation_fields import (
    check_name,
    get_field,
    parse_kind,
    parse_palette_index,
)
from glus_mm.datasets.mask_sources import MaskSource, MaskStore
from glus_mm.datasets.ref_youtube_vos import RefYouTubeVOSDataset
from glus_mm.registry import DATASETS

NUM_ANNOTATIONS = 4
"""Expressions of an object in Ref-DAVIS17: two annotators, each for the first frame and for the
video."""


@DATASETS.register_module()
class RefDAVISDataset(RefYouTubeVOSDataset):
    """A split of Ref-DAVIS17 in the layout of Ref-YouTube-VOS.

    ::

        data_root/
          meta_expressions/<split>/meta_expressions.json
          <split>/JPEGImages/<video>/<frame>.jpg
          <split>/Annotations/<video>/<frame>.png     palette index = obj_id, 255 = void
          <split>/mask_dict.json                      optional: the masks as GLUS and VISA have them

    ``tools/dataset_converters/ref_davis.py`` makes this layout from the official files. Each object
    has four expressions, from two annotators who saw the first frame or the whole video: expression
    ``4 * k + a`` is that of annotation ``a`` for the k-th object, which the ReferFormer protocol
    relies on. It is checked when testing.

    Masks come from the PNGs, or from ``mask_dict.json`` where ``data_prefix['mask']`` names a JSON
    file. Its keys are a running counter over the videos in sorted order and, within a video, the
    ids of the expressions sorted as texts (so that "10" comes before "2").

    For the arguments and errors see :class:`BaseRefVOSDataset`.
    """

    METAINFO: dict = dict(dataset='ref_davis')

    def open_masks(self, videos: dict) -> MaskSource | None:
        """Find the palette PNGs or read ``mask_dict.json``; see the base class."""
        path = self.data_prefix['mask']
        if not path.endswith('.json'):
            return super().open_masks(videos)
        if not self.has_masks(path, osp.isfile(path)):
            return None
        self._numbers = number_expressions(videos, self.ann_file)
        return MaskStore(path)

    def load_data_list(self) -> list[dict]:
        """Parse the annotation; see the base class."""
        data_list = super().load_data_list()
        if isinstance(self.masks, MaskStore) and len(self.masks) != len(self._numbers):
            raise ValueError(f'{self.masks.path}: expected one entry for each of the '
                             f'{len(self._numbers)} expressions of {self.ann_file}, got '
                             f'{len(self.masks)}')
        return data_list

    def expression_items(self, video: dict, where: str) -> list[tuple[str, Any]]:
        """Ids and entries of a video's expressions; when testing, four for each object."""
        items = super().expression_items(video, where)
        if self.test_mode:
            _check_annotations(items, where)
        return items

    def parse_target(self, exp_id: str, entry: dict, video: dict, where: str) -> dict:
        """Parse ``obj_id`` and find the masks; see the base class."""
        if not isinstance(self.masks, MaskStore):
            return super().parse_target(exp_id, entry, video, where)
        number = self._numbers[video['video_id'], exp_id]
        frames = len(video['frame_names'])
        if number not in self.masks or self.masks.num_frames(number) != frames:
            got = self.masks.num_frames(number) if number in self.masks else 'no such entry'
            raise ValueError(f"{where}: expected {frames} masks (as in 'frames') under {number!r} "
                             f'in {self.masks.path}, got {got}')
        return dict(object_ids=(parse_palette_index(entry, 'obj_id', where), ),
                    anno_ids=(number, ), kind=parse_kind(entry, where))


def number_expressions(videos: dict, path: str) -> dict[tuple[str, str], str]:
    """Keys of all expressions in a ``mask_dict.json`` of the GLUS and VISA way.

    Args:
        videos: the videos of an annotation in the layout of Ref-YouTube-VOS.
        path: its file, for errors.

    Returns:
        The number, as text, of each pair of video and expression.

    Raises:
        ValueError: the videos have not this layout.
    """
    pairs = []
    for video_id in sorted(videos):
        where = f'{path}: video {video_id!r}'
        check_name(video_id, where)
        expressions = get_field(videos[video_id], 'expressions', dict, where)
        if not expressions:
            raise ValueError(f"{where}: expected at least one entry in 'expressions', got none")
        pairs += [(video_id, exp_id) for exp_id in sorted(expressions)]
    return {pair: str(number) for number, pair in enumerate(pairs)}


def _check_annotations(items: list[tuple[str, Any]], where: str) -> None:
    """Raise ``ValueError`` unless expressions 4 k to 4 k + 3 are the four of one object."""
    objects: dict[int, str] = {}
    for exp_id, entry in items:
        place = f'{where}, expression {exp_id!r}'
        if exp_id not in map(str, range(len(items))):
            raise ValueError(f'{place}: expected an id from 0 to {len(items) - 1}, as the video '
                             f'has {len(items)} expressions')
        object_id = parse_palette_index(entry, 'obj_id', place)
        known = objects.setdefault(int(exp_id) // NUM_ANNOTATIONS, object_id)
        if known != object_id:
            raise ValueError(f"{place}, key 'obj_id': expected {known!r}, as expressions come in "
                             f'fours for one object, got {object_id!r}')
    if len(items) % NUM_ANNOTATIONS or len(set(objects.values())) != len(objects):
        raise ValueError(f'{where}: expected {NUM_ANNOTATIONS} expressions for each object, got '
                         f'{len(items)} for the objects {sorted(set(objects.values()))}')
