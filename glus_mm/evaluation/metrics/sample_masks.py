"""Read predicted and true masks out of a data sample, with every check on the way."""

from collections.abc import Iterator
from os.path import splitdrive

import numpy as np
import torch
from pycocotools import mask as coco_mask

from glus_mm.utils.masks import decode_rle

_REQUIRED = ('video_id', 'exp_ids', 'frame_names', 'pred_masks')
_REQUIRED_WITH_GT = ('object_ids', 'gt_rles')


def check_sample(sample: dict, with_gt: bool) -> None:
    """Check that a sample is whole, as far as that can be told without decoding a mask.

    Args:
        sample: what ``RefVOSDataSample.to_dict()`` returns.
        with_gt: whether ground truth is needed.

    Raises:
        ValueError: a field is absent, or does not have one entry per expression or frame.
    """
    where = f'video {sample.get("video_id")!r}'
    missing = [key for key in _REQUIRED + _REQUIRED_WITH_GT * with_gt if sample.get(key) is None]
    if missing:
        hint = ''
        if 'gt_rles' in missing:
            hint = '; a split without ground truth can only be written: format_only=True'
        raise ValueError(f'expected the data sample of {where} to have '
                         f'{", ".join(missing)}, got only {sorted(sample)}{hint}')
    exp_ids = sample['exp_ids']
    if len(set(exp_ids)) != len(exp_ids):
        raise ValueError(f'expected distinct expression ids in {where}, got {list(exp_ids)}')
    if not sample['frame_names']:
        raise ValueError(f'expected at least one frame in {where}, got none')
    for key in ('kinds', 'object_ids', 'gt_rles', 'pred_masks', 'pred_seg'):
        value = sample.get(key)
        if value is not None and len(value) != len(exp_ids):
            raise ValueError(f'expected {key} of {where} to have one entry for each of its '
                             f'{len(exp_ids)} expressions, got {len(value)}')


def check_path_names(sample: dict) -> None:
    """Refuse ids that, as parts of a path, would lead out of the output folder.

    Raises:
        ValueError: an expression's or a frame's name, or a part of the video's id between slashes,
            is empty, '.' or '..', or has a separator, a null character or, on Windows, a drive.
    """
    # ReVOS has videos in folders of folders.
    names = [('video id', part) for part in sample['video_id'].split('/')]
    names += [('expression id', exp_id) for exp_id in sample['exp_ids']]
    names += [('frame name', name) for name in sample['frame_names']]
    for what, name in names:
        if (name in ('', '.', '..') or any(char in name for char in '/\\\0')
                or splitdrive(name)[0]):
            raise ValueError(f'expected a {what} that can be the name of a file, got {name!r} in '
                             f'video {sample["video_id"]!r}')


def iter_masks(sample: dict, exp: int,
               with_gt: bool) -> Iterator[tuple[str, np.ndarray, np.ndarray | None]]:
    """Decode the masks of one expression frame by frame.

    Args:
        sample: a checked sample.
        exp: position of the expression in the sample.
        with_gt: whether to decode ground truth.

    Yields:
        Name of the frame; predicted mask, bool (H, W); None, or how many of the expression's
        objects cover a pixel, uint8 (H, W).

    Raises:
        ValueError: a mask is missing, or its size is not that of the video; names the video, the
            expression and the frame.
    """
    exp_id, frame_names = sample['exp_ids'][exp], sample['frame_names']
    sources = {'prediction': sample['pred_masks'][exp]}
    if with_gt:
        sources['ground truth'] = sample['gt_rles'][exp]
    for what, rles in sources.items():
        if rles is not None and len(rles) > len(frame_names):
            raise ValueError(f'expected a {what} for each of the {len(frame_names)} frames of '
                             f'video {sample["video_id"]!r}, expression {exp_id!r}, got '
                             f'{len(rles)}')
    size = sample.get('ori_shape')
    for t, name in enumerate(frame_names):
        masks = {}
        for what, rles in sources.items():
            where = f'{what} of video {sample["video_id"]!r}, expression {exp_id!r}, frame {name!r}'
            rle = rles[t] if rles is not None and t < len(rles) else None
            if rle is None:
                raise ValueError(f'expected a mask, got none: {where}')
            size = tuple(rle['size']) if size is None else tuple(size)
            if tuple(rle['size']) != size:
                raise ValueError(f'expected a mask of size {size}, got {tuple(rle["size"])}: '
                                 f'{where}')
            masks[what] = decode_rle(rle) if what == 'prediction' else _count_objects(rle)
        yield name, masks['prediction'], masks.get('ground truth')


def _count_objects(rle: dict) -> np.ndarray:
    """Decode a true mask, uint8 (H, W); ``objects`` are there where some of them overlap."""
    return sum(coco_mask.decode(part) for part in rle.get('objects') or [rle])


def count_frames_without_seg(sample: dict) -> list[int | None]:
    """Per expression, the number of frames on which no ``[SEG]`` came; None if not known."""
    if sample.get('pred_seg') is None:
        return [None] * len(sample['exp_ids'])
    is_seg = torch.as_tensor(sample['pred_seg']).to('cpu', torch.bool)
    return (~is_seg).sum(dim=1).tolist()
