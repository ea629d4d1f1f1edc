"""What the parts of a training batch refer to."""

from collections.abc import Sequence

import torch
from torch import Tensor

from glus_mm.structures import RefVOSDataSample


def distinct_frames(imgs: Sequence[Tensor], data_samples: Sequence[RefVOSDataSample] | None,
                    fields: Sequence[str]) -> tuple[list[int], list[int]]:
    """Find the images of a batch that have to be encoded.

    Within a sample, images of the same frame are equal; those of different samples may not be, as
    transforms draw anew for each.

    Args:
        imgs: B of (M, ...).
        data_samples: (B), which say what frames the images show; None, or where they do not say,
            if each image is a frame of its own.
        fields: names of the lists of frames, in the order of the images.

    Returns:
        Rows to encode out of the concatenated images, and for each of the images its place among
        these rows.

    Raises:
        ValueError: a sample has more or fewer frames than images.
    """
    place_of, rows, places = {}, [], []
    for b, images in enumerate(imgs):
        frames = list(range(len(images)))
        if data_samples is not None and all(name in data_samples[b] for name in fields):
            frames = [frame for name in fields for frame in data_samples[b].get(name)]
        if len(frames) != len(images):
            raise ValueError(f'expected an image for each of the frames {frames} of video '
                             f'{data_samples[b].video_id!r}, got {len(images)} images')
        for frame in frames:
            if (b, frame) not in place_of:
                place_of[b, frame] = len(rows)
                rows.append(len(places))
            places.append(place_of[b, frame])
    return rows, places


def visible_frames(sample: RefVOSDataSample, seg_per: str) -> Tensor:
    """Which frames are answered with ``[SEG]`` where answers say whether the object is there.

    Args:
        sample: with ``gt_masks`` (E, Tq, H, W), or talk, which has no query frames, Tq = 0.
        seg_per: ``'frame'``, or ``'video'`` if one answer stands for all frames, which it does as
            soon as any of them shows the object.

    Returns:
        bool (E, Tq) on the CPU, whether anything of the expression's objects is visible.
    """
    if 'gt_masks' not in sample:
        return torch.zeros(len(sample), 0, dtype=torch.bool)
    visible = (sample.gt_masks > 0).flatten(2).any(2).cpu()
    if seg_per == 'video':
        visible = visible.any(1, keepdim=True).expand_as(visible)
    return visible


def token_identities(data_samples: Sequence[RefVOSDataSample]) -> dict[str, list]:
    """What each seg token refers to, as the arguments of ``ObjectContrastiveLoss``.

    Args:
        data_samples: (B).

    Returns:
        Lists in the order (video, expression, query frame).
    """
    rows = [(f'{sample.dataset}/{sample.video_id}', exp_id, object_ids, frame_id, b)
            for b, sample in enumerate(data_samples)
            for exp_id, object_ids in zip(sample.exp_ids, sample.object_ids)
            for frame_id in sample.query_frame_ids]
    names = ('video_ids', 'exp_ids', 'object_ids', 'frame_ids', 'sample_ids')
    return {name: [row[i] for row in rows] for i, name in enumerate(names)}
