"""What the parts of a training batch refer to."""

from collections.abc import Sequence

import torch
from torch import Tensor

from glus_mm.structures import RefVOSDataSample


def draw_points(regions: Tensor, number: int, generator: torch.Generator) -> Tensor:
    """Draw points that are spread evenly over regions.

    Args:
        regions: (N, S, S), above 0 inside; an empty one counts as all of the image.
        number: how many points of each, K.
        generator: on the CPU.

    Returns:
        int64 (N, K, 2) as (x, y), on the CPU.
    """
    weights = (regions.flatten(1) > 0).cpu()
    weights = (weights | ~weights.any(1, keepdim=True)).float()
    picked = torch.multinomial(weights, number, replacement=number > 1, generator=generator)
    side = regions.shape[-1]
    return torch.stack([picked % side, picked // side], -1)


def correcting_clicks(pred: Tensor, true: Tensor, max_clicks: int,
                      generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Clicks where masks are wrong, as SAM-2 is trained with: on what is missing, off what is not
    the object; on the object where nothing is wrong.

    Args:
        pred: bool (N, S, S), the masks so far.
        true: bool (N, S, S).
        max_clicks: the most clicks on a mask, K; each gets 1 to K of them, drawn evenly.
        generator: on the CPU.

    Returns:
        Positions float32 (N, K, 2) as (x, y), and labels int64 (N, K): 1 on the object, 0 off it,
        -1 for no click, as where nothing is wrong and there is no object. Both on the CPU.
    """
    wrong = pred ^ true
    region = torch.where(wrong.flatten(1).any(1)[:, None, None], wrong, true)
    coords = draw_points(region, max_clicks, generator)
    rows = torch.arange(len(true))[:, None]
    labels = true.cpu()[rows, coords[..., 1], coords[..., 0]].long()
    number = torch.randint(1, max_clicks + 1, (len(true), 1), generator=generator)
    unused = (torch.arange(max_clicks) >= number) | ~region.flatten(1).any(1).cpu()[:, None]
    return coords.float(), labels.masked_fill(unused, -1)


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
        Rows to encode out of the concatenated images, and for each of the images its position
        among these rows.

    Raises:
        ValueError: a sample has more or fewer frames than images.
    """
    row_of, rows, row_of_image = {}, [], []
    for b, images in enumerate(imgs):
        frames = list(range(len(images)))
        if data_samples is not None and all(name in data_samples[b] for name in fields):
            frames = [frame for name in fields for frame in data_samples[b].get(name)]
        if len(frames) != len(images):
            raise ValueError(f'expected an image for each of the frames {frames} of video '
                             f'{data_samples[b].video_id!r}, got {len(images)} images')
        for frame in frames:
            if (b, frame) not in row_of:
                row_of[b, frame] = len(rows)
                rows.append(len(row_of_image))
            row_of_image.append(row_of[b, frame])
    return rows, row_of_image


def visible_frames(sample: RefVOSDataSample, any_frame: bool) -> Tensor:
    """Which frames are answered with ``[SEG]`` where answers say whether the object is there.

    Args:
        sample: with ``gt_masks`` (E, Tq, H, W), or talk, which has no query frames, Tq = 0.
        any_frame: one answer stands for all frames, which it does as soon as any of them shows the
            object.

    Returns:
        bool (E, Tq) on the CPU, whether anything of the expression's objects is visible.
    """
    if 'gt_masks' not in sample:
        return torch.zeros(len(sample), 0, dtype=torch.bool)
    visible = (sample.gt_masks > 0).flatten(2).any(2).cpu()
    if any_frame:
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
