"""The base of all data sets for referring video object segmentation."""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.logging import print_log

from glus_mm.datasets.mask_store import MaskStore


class BaseRefVOSDataset(BaseDataset):
    """One item is one video with all its expressions; subclasses only parse an annotation format.

    An item is addressed by ``index`` or by ``(index, draw)``. All its randomness comes from
    ``results['rng']``, which is seeded with ``(seed, index, draw)``: ``dataset[i]`` always gives
    the same sample, and a sampler gets others by choosing other draws. An error in an item is
    raised; no other item is put in its place.

    ``METAINFO['dataset']`` is the data set's name in the data samples.

    Args:
        data_root: folder that relative paths of ``ann_file`` and ``data_prefix`` start from.
        ann_file: file with videos and expressions.
        data_prefix: where images (``'img'``) and masks (``'mask'``) lie; keys left out take the
            data set's own default (``DATA_PREFIX``).
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
        ValueError: an argument is out of its range.
    """

    METAINFO: dict = dict(dataset='ref_vos')
    DATA_PREFIX: dict = dict(img='', mask='')

    def __init__(self,
                 data_root: str = '',
                 ann_file: str = '',
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
        unknown = sorted(set(data_prefix or ()) - set(self.DATA_PREFIX))
        if unknown:
            raise ValueError(f'data_prefix of {type(self).__name__}: expected keys out of '
                             f'{sorted(self.DATA_PREFIX)}, got {unknown}')
        if max_refetch != 0:
            raise ValueError(f'max_refetch must be 0, got {max_refetch}: a broken item is an '
                             f'error and is not replaced by another one')
        if type(min_frames) is not int or min_frames < 1:
            raise ValueError(f'min_frames must be an integer of at least 1, got {min_frames!r}')
        if type(seed) is not int or seed < 0:
            raise ValueError(f'seed must be an integer of at least 0, got {seed!r}')
        self.min_frames = min_frames
        self.seed = seed
        self.masks: MaskStore | None = None
        super().__init__(
            ann_file=ann_file,
            metainfo=metainfo,
            data_root=data_root,
            data_prefix=dict(self.DATA_PREFIX, **(data_prefix or {})),
            indices=indices,
            serialize_data=serialize_data,
            pipeline=list(pipeline),
            test_mode=test_mode,
            lazy_init=lazy_init,
            max_refetch=max_refetch)

    @abstractmethod
    def load_data_list(self) -> list[dict]:
        """Parse the annotation, and set ``self.masks`` where there are masks.

        Returns:
            One plain dict per video: ``dataset`` (str), ``video_id`` (str), ``frame_names``
            (tuple[str]), ``img_paths`` (list[str]), ``ori_shape`` (``(H, W)`` where the annotation
            states it, else None) and ``expressions``, a list of dicts ``video_id``, ``exp_id``,
            ``exp``, ``object_ids`` (tuple[str]), ``anno_ids`` (tuple[str]), ``kind``
            (str or None).
        """

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

        Returns:
            What the pipeline returns.

        Raises:
            IndexError: there is no such video.
            ValueError: a transform returned None.
        """
        if not self._fully_initialized:
            self.full_init()
        return self.prepare_data(idx)

    def prepare_data(self, idx: int | tuple[int, int]) -> Any:
        """Run the pipeline on one video; arguments and errors as for ``__getitem__``."""
        index, draw = idx if isinstance(idx, tuple) else (idx, 0)
        index, draw = int(index), int(draw)
        if not -len(self) <= index < len(self):
            raise IndexError(f'{self.ann_file}: expected an index below {len(self)}, got {index}')
        index %= len(self)
        results = self.get_data_info(index)
        results['mask_store'] = self.masks
        results['rng'] = np.random.default_rng((self.seed, index, draw))
        item = self.pipeline(results)
        if item is None:
            raise ValueError(f'{self.ann_file}: a transform returned None for video '
                             f'{results["video_id"]!r}')
        return item
