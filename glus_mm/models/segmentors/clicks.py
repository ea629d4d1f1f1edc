"""Clicks of a person who does not exist: what teaches a mask decoder to follow them."""

import torch
from torch import Tensor


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
