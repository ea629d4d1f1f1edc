"""MeViS, and every other data set that is laid out like it."""

import os
import os.path as osp
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mmengine.config import Config
from mmengine.logging import print_log

from glus_mm.datasets.base_ref_vos_dataset import BaseRefVOSDataset
from glus_mm.datasets.mask_store import MaskStore
from glus_mm.models.mllms.prompt import clean_expression
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
    have no ground truth; that needs ``test_mode=True``.

    Args:
        data_root: the folder of the split.
        ann_file: relative to ``data_root``, or absolute.
        data_prefix: ``img`` (folder) and ``mask`` (file), likewise.
        pipeline: transforms, as configs or callables.
        test_mode: the masks may be missing.
        metainfo: overrides ``METAINFO``.
        indices: use the first (or, negative, the last) videos only, or those listed.
        serialize_data: keep the list of videos as bytes that workers share.
        lazy_init: read the annotation on first use.
        max_refetch: only 0 is accepted.
        min_frames: videos with fewer frames are left out (4 in the official training).
        seed: seed of the items' randomness.

    Raises:
        FileNotFoundError: the annotation, or the masks without ``test_mode``, cannot be read.
        ValueError: the files have not this layout; the message names file, video and expression.
    """

    METAINFO: dict = dict(dataset='mevis')
    DATA_PREFIX: dict = dict(img='JPEGImages', mask='mask_dict.json')

    def __init__(self,
                 data_root: str = '',
                 ann_file: str = 'meta_expressions.json',
                 data_prefix: Mapping[str, str] | None = None,
                 pipeline: Sequence[dict | Callable] = (),
                 test_mode: bool = False,
                 metainfo: Mapping | Config | None = None,
                 indices: int | Sequence[int] | None = None,
                 serialize_data: bool = True,
                 lazy_init: bool = False,
                 max_refetch: int = 0,
                 min_frames: int = 1,
                 seed: int = 0) -> None:
        super().__init__(
            data_root=data_root,
            ann_file=ann_file,
            data_prefix=data_prefix,
            pipeline=pipeline,
            test_mode=test_mode,
            metainfo=metainfo,
            indices=indices,
            serialize_data=serialize_data,
            lazy_init=lazy_init,
            max_refetch=max_refetch,
            min_frames=min_frames,
            seed=seed)

    def load_data_list(self) -> list[dict]:
        """Parse both JSON files; see the base class for the result."""
        content = read_json_object(self.ann_file)
        videos = _get(content, 'videos', dict, self.ann_file)
        mask_file = self.data_prefix['mask']
        if osp.isfile(mask_file):
            self.masks = MaskStore(mask_file)
        elif self.test_mode:
            print_log(f'{self.ann_file}: no ground truth, there is no {mask_file}',
                      logger='current')
        else:
            raise FileNotFoundError(f'{self.ann_file}: training needs masks, but there is no file '
                                    f'{mask_file}')
        return [self._parse_video(video_id, video) for video_id, video in videos.items()]

    def _parse_video(self, video_id: str, video: Any) -> dict:
        where = f'{self.ann_file}: video {video_id!r}'
        _check_name(video_id, where)
        frames = _get(video, 'frames', list, where)
        if not frames:
            raise ValueError(f"{where}: expected at least one name in 'frames', got none")
        for frame in frames:
            _check_name(frame, f"{where}, key 'frames'")
        if len(set(frames)) != len(frames):
            double = next(frame for i, frame in enumerate(frames) if frame in frames[:i])
            raise ValueError(f"{where}, key 'frames': expected unique names, got {double!r} twice")
        expressions = _get(video, 'expressions', dict, where)
        if not expressions:
            raise ValueError(f"{where}: expected at least one entry in 'expressions', got none")
        folder = osp.join(self.data_prefix['img'], video_id)
        return dict(
            dataset=self._metainfo['dataset'],
            video_id=video_id,
            frame_names=tuple(frames),
            img_paths=[f'{folder}{os.sep}{frame}.jpg' for frame in frames],
            ori_shape=_parse_shape(video, where),
            expressions=[self._parse_expression(video_id, exp_id, entry, len(frames))
                         for exp_id, entry in expressions.items()])

    def _parse_expression(self, video_id: str, exp_id: str, entry: Any, num_frames: int) -> dict:
        where = f'{self.ann_file}: video {video_id!r}, expression {exp_id!r}'
        _check_name(exp_id, where)
        text = _get(entry, 'exp', str, where)
        try:
            clean_expression(text)
        except ValueError as error:
            raise ValueError(f"{where}, key 'exp': {error}") from error
        kind = entry.get('kind')
        if kind is not None and not (isinstance(kind, str) and kind):
            raise ValueError(f"{where}, key 'kind': expected text, got {kind!r}")
        object_ids = _parse_ids(entry, 'obj_id', where, required=self.masks is not None)
        anno_ids = _parse_ids(entry, 'anno_id', where, required=self.masks is not None)
        if self.masks is not None:
            self._check_masks(object_ids, anno_ids, num_frames, where)
        return dict(video_id=video_id, exp_id=exp_id, exp=text, object_ids=object_ids,
                    anno_ids=anno_ids, kind=kind)

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


def _get(entry: Any, key: str, kind: type, where: str) -> Any:
    """Return ``entry[key]``, which must be of type ``kind``."""
    if not isinstance(entry, dict):
        raise ValueError(f'{where}: expected an object with the key {key!r}, got '
                         f'{type(entry).__name__}')
    if key not in entry:
        raise ValueError(f'{where}: expected the key {key!r}, got {sorted(entry)[:8]}')
    if not isinstance(entry[key], kind):
        raise ValueError(f'{where}, key {key!r}: expected {kind.__name__}, got '
                         f'{type(entry[key]).__name__}')
    return entry[key]


def _check_name(name: Any, where: str) -> None:
    """Refuse ids that cannot name a file: paths are built from them, for reading and writing."""
    if not isinstance(name, str) or name in ('', '.', '..') or any(c in name for c in '/\\\0'):
        raise ValueError(f'{where}: expected an id that is a plain file name, got {name!r}')


def _parse_shape(video: dict, where: str) -> tuple[int, int] | None:
    if 'height' not in video and 'width' not in video:
        return None
    shape = (video.get('height'), video.get('width'))
    if not all(type(side) is int and side > 0 for side in shape):
        raise ValueError(f"{where}: expected positive integers in 'height' and 'width', got "
                         f'{shape}')
    return shape


def _parse_ids(entry: dict, key: str, where: str, required: bool) -> tuple[str, ...]:
    if not required and key not in entry:
        return ()
    ids = _get(entry, key, list, where)
    if not all(type(item) in (int, str) for item in ids):
        raise ValueError(f'{where}, key {key!r}: expected a list of integers, got {ids}')
    return tuple(str(item) for item in ids)
