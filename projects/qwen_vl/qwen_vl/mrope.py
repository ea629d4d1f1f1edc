"""Qwen-VL's positions: a text token has one number, a visual token time, height and width."""

import torch
from torch import Tensor


def mrope_positions(is_image: Tensor, side: int, start: int = 0) -> Tensor:
    """Positions of sequences whose images are square grids of visual tokens.

    An image of side x side tokens takes up ``side`` numbers of the count, not side * side: its
    tokens have one time and their row and column.

    Args:
        is_image: bool (N, L), True on visual tokens.
        side: of the grid.
        start: position of the first token.

    Returns:
        int64 (3, N, L): time, height, width.
    """
    image = is_image.long()
    index = image.cumsum(1) - image
    text = (1 - image).cumsum(1) - (1 - image)
    number, place = index // side**2, index % side**2
    base = start + text + side * number
    grid = torch.stack([torch.zeros_like(place), place // side, place % side])
    return base + grid * image
