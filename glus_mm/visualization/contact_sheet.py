"""Many frames on one image."""

from collections.abc import Sequence

import cv2
import numpy as np

from glus_mm.utils.image import check_frame
from glus_mm.visualization.text import Color, title_strip

_GROUND = 32
_GAP = 4


def contact_sheet(frames: Sequence[np.ndarray],
                  columns: int,
                  row_titles: Sequence[str] | None = None,
                  row_colors: Sequence[Color] | None = None) -> np.ndarray:
    """Put frames in rows, from left to right and from top to bottom.

    Args:
        frames: uint8 (H, W, 3); those of another size than the first are fitted to it.
        columns: frames in a row.
        row_titles: a line above each row, such as its expression.
        row_colors: RGB of the titles, white by default.

    Returns:
        uint8 (H', W', 3) on a dark ground.

    Raises:
        ValueError: there is no frame, ``columns`` is below 1, or titles do not match the rows.
    """
    if not frames:
        raise ValueError('expected at least one frame for a contact sheet, got none')
    if columns < 1:
        raise ValueError(f'expected at least 1 column, got {columns}')
    rows = -(-len(frames) // columns)
    columns = min(columns, len(frames))
    if row_titles is not None and len(row_titles) != rows:
        raise ValueError(f'expected a title for each of {rows} rows, got {len(row_titles)}')
    colors = [(255, 255, 255)] * rows if row_colors is None else list(row_colors)
    if len(colors) != rows:
        raise ValueError(f'expected a colour for each of {rows} rows, got {len(colors)}')
    size = check_frame(frames[0], 'frame 0 of the contact sheet').shape[1::-1]
    parts = []
    for row in range(rows):
        tiles = [_fit(check_frame(frame, f'frame {i} of the contact sheet'), size)
                 for i, frame in enumerate(frames[row * columns:(row + 1) * columns],
                                           row * columns)]
        strip = _row(tiles, columns, size)
        if row_titles is not None:
            parts.append(title_strip(row_titles[row], colors[row], strip.shape[1],
                                     max(14, size[0] // 12), _GROUND))
        parts.append(strip)
    return np.concatenate(parts)


def _fit(frame: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    if frame.shape[1::-1] == size:
        return frame
    shrinks = frame.shape[1] > size[0]
    return cv2.resize(frame, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)


def _row(tiles: list[np.ndarray], columns: int, size: tuple[int, int]) -> np.ndarray:
    width, height = size
    strip = np.full((height + 2 * _GAP, columns * (width + _GAP) + _GAP, 3), _GROUND, np.uint8)
    for i, tile in enumerate(tiles):
        left = _GAP + i * (width + _GAP)
        strip[_GAP:_GAP + height, left:left + width] = tile
    return strip
