"""The base of all data sets for referring video object segmentation."""

import os.path as osp
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.logging import print_log

from glus_mm.datasets.annotation_fields import (
    check_name,
    get_field,
    parse_frames,
    parse_shape,
    parse_text,
)
from glus_mm.datasets.mask_sources import MaskSource
from glus_mm.utils.checked import checked
from glus_mm.utils.json_file import read_json_object


class BaseRefVOSDataset(BaseDataset):
    """One item is one video with all its expressions; subclasses only parse an annotation format.

    An item is addressed by ``index`` or by ``(index, draw)``. All its randomness comes from
    ``results['rng']``, which is seeded with ``(seed, index, draw)``: ``dataset[i]`` always gives
    the same sample, and a sampler gets others by choosing other draws. An error in an item is
    raised; no other item is put in its place.

    A subclass says where its files lie, in the class attributes: ``METAINFO['dataset']`` is the
    data set's name in the data samples, ``ANN_FILE`` and ``DATA_PREFIX`` are the defaults of the
    arguments. ``KINDS`` are the kinds that its expressions can be of; by default those that the
    annotation has. ``MASKS`` makes the source of the masks from their file or folder;
    ``TEST_ONLY`` says why a data set cannot be trained on. It parses what its format has of its
    own: ``parse_target``. This class parses the rest: ``{"videos": {id: {"frames": [...],
    "expressions": {id: {...}}}}}``.

    Args:
        data_root: folder that relative paths of ``ann_file`` and ``data_prefix`` start from.
        ann_file: file with videos and expressions; the data set's own default if None.
        data_prefix: where images (``'img'``) and masks (``'mask'``) lie; keys left out take the
            data set's own default (``DATA_PREFIX``).
        exclude_ann_file: another file of the same form; its videos are left out of this one's.
            Relative to ``data_root``, or absolute.
        pipeline: transforms, as configs or callables.
        test_mode: the data set may lack ground truth.
        metainfo: overrides ``METAINFO``.
        indices: use the first (or, negative, the last) videos only, or those listed.
        serialize_data: keep the list of videos as bytes that workers share.
        lazy_init: read the annotation on first use.
        max_refetch: mmengine's number of replacements for a failed item; only 0 is accepted.
        min_frames: videos with fewer frames are left out (4 in the official training).
        seed: seed of the items' randomness.

    Raises:
        FileNotFoundError: the annotation, or the masks without ``test_mode``, cannot be read.
        ValueError: an argument is out of its range, or the files are not as they should be; the
            message names file, video and expression.
    """

    METAINFO: dict = dict(dataset='ref_vos')
    KINDS: tuple[str, ...] | None = None
    ANN_FILE: str = 'meta_expressions.json'
    DATA_PREFIX: dict = dict(img='JPEGImages', mask='mask_dict.json')
    TEXT_KEY: str = 'exp'
    NESTED_VIDEO_IDS: bool = False
    MASKS: Callable[[str], MaskSource] | None = None
    TEST_ONLY: str = ''

    def __init__(self,
                 data_root: str = '',
                 ann_file: str | None = None,
                 data_prefix: Mapping[str, str] | None = None,
                 exclude_ann_file: str | None = None,
                 pipeline: Sequence[dict | Callable] = (),
                 test_mode: bool = False,
                 metainfo: Mapping | Config | None = None,
                 indices: int | Sequence[int] | None = None,
                 serialize_data: bool = True,
                 lazy_init: bool = False,
                 max_refetch: int = 0,
                 min_frames: int = 1,
                 seed: int = 0) -> None:
        unknown = sorted(set(data_prefix or ()) - set(self.DATA_PREFIX))
        if unknown:
            raise ValueError(f'data_prefix of {type(self).__name__}: expected keys out of '
                             f'{sorted(self.DATA_PREFIX)}, got {unknown}')
        if max_refetch != 0:
            raise ValueError(f'max_refetch must be 0, got {max_refetch}: a broken item is an '
                             f'error and is not replaced by another one')
        checked(1, min_frames=min_frames)
        checked(0, seed=seed)
        self.min_frames = min_frames
        self.seed = seed
        self.exclude_ann_file = exclude_ann_file and osp.join(data_root, exclude_ann_file)
        self.masks: MaskSource | None = None
        self._known_kinds: tuple[str, ...] | None = None
        super().__init__(
            ann_file=self.ANN_FILE if ann_file is None else ann_file,
            metainfo=metainfo,
            data_root=data_root,
            data_prefix=dict(self.DATA_PREFIX, **(data_prefix or {})),
            indices=indices,
            serialize_data=serialize_data,
            pipeline=list(pipeline),
            test_mode=test_mode,
            lazy_init=lazy_init,
            max_refetch=max_refetch)

    @classmethod
    def _load_metainfo(cls, metainfo: Mapping | Config | None = None) -> dict:
        # MMEngine looks for a file behind every text, and warns where there is none.
        if metainfo is not None and not isinstance(metainfo, (Mapping, Config)):
            return super()._load_metainfo(metainfo)
        return dict(cls.METAINFO, **(metainfo or {}))

    def load_data_list(self) -> list[dict]:
        """Parse the annotation, and set ``self.masks`` where there are masks.

        Returns:
            One plain dict per video: ``dataset`` (str), ``video_id`` (str), ``frame_names``
            (tuple[str]), ``img_paths`` (list[str]), ``ori_shape`` (``(H, W)`` where the annotation
            states it, else None) and ``expressions``, a list of dicts ``video_id``, ``exp_id``,
            ``exp``, ``object_ids`` (tuple[str], unique within the video), ``anno_ids``
            (tuple[str], for ``self.masks``), ``kind`` (str or None).

        Raises:
            ValueError: no video of ``exclude_ann_file`` is among those of ``ann_file``.
        """
        videos = self._read_videos(self.ann_file)
        self.masks = self.open_masks(videos)
        excluded = set()
        if self.exclude_ann_file:
            excluded = set(self._read_videos(self.exclude_ann_file))
            if excluded.isdisjoint(videos):
                raise ValueError(f'{self.exclude_ann_file}: expected videos of {self.ann_file} to '
                                 f'leave out, got none of them among {len(excluded)} videos')
        data_list = [self._parse_video(video_id, video) for video_id, video in videos.items()
                     if video_id not in excluded]
        found = {item['kind'] for video in data_list for item in video['expressions']}
        self._known_kinds = self.KINDS or tuple(sorted(found - {None}))
        return data_list

    def open_masks(self, videos: dict) -> MaskSource | None:
        """Make the source of the masks.

        Args:
            videos: the annotation's videos, unchecked.

        Returns:
            The source, or None where there are no masks.

        Raises:
            FileNotFoundError: there are none, and the data set is to be trained on.
            ValueError: they have not the layout they should have, or the data set serves for
                testing only.
        """
        if self.TEST_ONLY and not self.test_mode:
            raise ValueError(f'{self.ann_file}: expected test_mode=True, as {self.TEST_ONLY}, got '
                             'False')
        make = type(self).MASKS
        if make is None:
            return None
        path = self.data_prefix['mask']
        exists = osp.isfile if path.endswith('.json') else osp.isdir
        return make(path) if self.has_masks(path, exists(path)) else None

    @abstractmethod
    def parse_target(self, exp_id: str, entry: dict, video: dict, where: str) -> dict:
        """Parse what an expression refers to.

        Args:
            exp_id: the expression's id.
            entry: the expression's entry in the annotation; the text is parsed already.
            video: what ``load_data_list`` returns for the video, without its expressions.
            where: file, video and expression, for errors.

        Returns:
            ``object_ids``, ``anno_ids`` and ``kind`` of an entry of ``expressions``, and
            whatever else ``self.masks`` needs.
        """

    def has_masks(self, path: str, exists: bool) -> bool:
        """Tell whether to use the masks at ``path``; without them only testing goes on.

        Returns:
            ``exists``, which is logged if it is False.

        Raises:
            FileNotFoundError: they are missing, and the data set is to be trained on.
        """
        if not exists and not self.test_mode:
            raise FileNotFoundError(f'{self.ann_file}: training needs masks, which were expected '
                                    f'at {path}, got nothing there')
        if not exists:
            print_log(f'{self.ann_file}: no ground truth, there is no {path}', logger='current')
        return exists

    def check_mask_folder(self, folder: str, where: str) -> str:
        """Return a folder below that of the masks if it is there.

        Raises:
            FileNotFoundError: it is not.
        """
        path = osp.join(self.masks.path, folder)
        if not osp.isdir(path):
            raise FileNotFoundError(f'{where}: expected masks in the folder {path}, got no such '
                                    'folder')
        return folder

    def expression_items(self, video: dict, where: str) -> list[tuple[str, Any]]:
        """Ids and entries of a video's expressions, in their order; each id is unique."""
        return list(get_field(video, 'expressions', dict, where).items())

    def image_file(self, video_id: str, frame: str) -> str:
        """Path of the image of a frame."""
        return osp.join(self.data_prefix['img'], video_id, f'{frame}.jpg')

    def parse_video(self, entry: dict, where: str) -> dict:
        """Parse what a video has beyond frames, size and expressions.

        Args:
            entry: the video's entry in the annotation.
            where: file and video, for errors.

        Returns:
            Further keys of what ``load_data_list`` returns for the video.
        """
        return {}

    def _read_videos(self, path: str) -> dict:
        videos = get_field(read_json_object(path), 'videos', dict, path)
        if not videos:
            raise ValueError(f"{path}: expected at least one video in 'videos', got none")
        return videos

    def _parse_video(self, video_id: str, entry: Any) -> dict:
        where = f'{self.ann_file}: video {video_id!r}'
        check_name(video_id, where, nested=self.NESTED_VIDEO_IDS)
        frames = parse_frames(entry, where)
        video = dict(
            dataset=self._metainfo['dataset'],
            video_id=video_id,
            frame_names=frames,
            img_paths=[self.image_file(video_id, frame) for frame in frames],
            ori_shape=parse_shape(entry, where),
            **self.parse_video(entry, where))
        items = self.expression_items(entry, where)
        if not items:
            raise ValueError(f"{where}: expected at least one entry in 'expressions', got none")
        expressions = [self._parse_expression(exp_id, item, video) for exp_id, item in items]
        return dict(video, expressions=expressions)

    def _parse_expression(self, exp_id: str, entry: Any, video: dict) -> dict:
        where = f'{self.ann_file}: video {video["video_id"]!r}, expression {exp_id!r}'
        check_name(exp_id, where)
        text = parse_text(entry, self.TEXT_KEY, where)
        return dict(video_id=video['video_id'], exp_id=exp_id, exp=text,
                    **self.parse_target(exp_id, entry, video, where))

    def filter_data(self) -> list[dict]:
        """Leave out the videos that are too short, and log how many.

        Raises:
            ValueError: no video is left.
        """
        kept = [v for v in self.data_list if len(v['frame_names']) >= self.min_frames]
        dropped = len(self.data_list) - len(kept)
        if dropped:
            print_log(f'{self.ann_file}: left out {dropped} of {len(self.data_list)} videos '
                      f'with fewer than {self.min_frames} frames', logger='current')
        if not kept:
            raise ValueError(f'{self.ann_file}: expected at least one video of at least '
                             f'{self.min_frames} frames, got {len(self.data_list)} videos, none '
                             f'long enough')
        return kept

    def __getitem__(self, idx: int | tuple[int, int]) -> Any:
        """Run the pipeline on one video.

        Args:
            idx: the position of a video, or a pair of it and the number of the draw (0 for a
                plain position).

        Raises:
            IndexError: there is no such video.
            ValueError: a transform returned None.
        """
        if not self._fully_initialized:
            self.full_init()
        return self.prepare_data(idx)

    def prepare_data(self, idx: int | tuple[int, int]) -> Any:
        """Run the pipeline on one video; arguments and errors as for ``__getitem__``.

        Where the list of videos says of which ``entry`` of a file an item is, errors of its
        transforms begin with it.

        Raises:
            IndexError: the index is beyond the last video.
            FileNotFoundError: an image is missing, if the item has an ``entry``.
            ValueError: a transform returned None, or refused an item that has an ``entry``.
        """
        index, draw = idx if isinstance(idx, tuple) else (idx, 0)
        index, draw = int(index), int(draw)
        if not -len(self) <= index < len(self):
            raise IndexError(f'{self.ann_file}: expected an index below {len(self)}, got {index}')
        index %= len(self)
        results = self.get_data_info(index)
        results['mask_store'] = self.masks
        results['known_kinds'] = self._known_kinds
        results['rng'] = np.random.default_rng((self.seed, index, draw))
        entry = results.get('entry')
        try:
            item = self.pipeline(results)
        except (FileNotFoundError, ValueError) as error:
            if entry is None:
                raise
            kind = FileNotFoundError if isinstance(error, FileNotFoundError) else ValueError
            raise kind(f'{entry}: {error}') from error
        if item is None:
            raise ValueError(f'{self.ann_file}: a transform returned None for video '
                             f'{results["video_id"]!r}')
        return item
