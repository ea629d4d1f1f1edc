"""Frames side by side on a sheet."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from glus_mm.utils.checked import checked
from glus_mm.utils.image import check_frame
from glus_mm.visualization.legend import GROUND, Color, title_strip
from glus_mm.visualization.local_visualizer import RefVOSLocalVisualizer

_GAP = 4
_WHITE: Color = (255, 255, 255)
_GREY: Color = (176, 176, 176)
_FULL, _HOLLOW = '\N{BLACK SQUARE}', '\N{WHITE SQUARE}'
_LABEL_SIZE = 20


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
    checked(1, columns=columns)
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
        strip = np.full((size[1] + 2 * _GAP, columns * (size[0] + _GAP) + _GAP, 3), GROUND,
                        np.uint8)
        for i, frame in enumerate(frames[row * columns:(row + 1) * columns]):
            check_frame(frame, f'frame {row * columns + i} of the contact sheet')
            if frame.shape[1::-1] != size:
                frame = cv2.resize(frame, size, interpolation=(
                    cv2.INTER_AREA if frame.shape[1] > size[0] else cv2.INTER_CUBIC))
            left = _GAP + i * (size[0] + _GAP)
            strip[_GAP:_GAP + size[1], left:left + size[0]] = frame
        if row_titles is not None:
            parts.append(title_strip(row_titles[row], colors[row], strip.shape[1],
                                     max(14, size[0] // 12)))
        parts.append(strip)
    return np.concatenate(parts)


@dataclass
class SheetFrame:
    """A frame of a sheet.

    Args:
        image: uint8 (H, W, 3) in RGB.
        label: stands above it.
        masks: bool (E, H, W), or None where the sample has none for this frame.
    """

    image: np.ndarray
    label: str
    masks: np.ndarray | None = None


def sample_sheet(title: str,
                 expressions: Sequence[str],
                 sections: Sequence[tuple[str, Sequence[SheetFrame]]],
                 columns: int = 4,
                 tile: tuple[int, int] = (480, 400)) -> np.ndarray:
    """Draw a sample: its title, a legend of its expressions, then frames by section.

    An expression that is on none of the frames has a hollow box in the legend.

    Args:
        title: the first line.
        expressions: (E) texts, each in the colour of its masks.
        sections: heading and frames, such as those of the context and those to query; one
            without frames is left out.
        columns: frames in a row.
        tile: width and height in pixels that a frame is fitted into.

    Returns:
        uint8 (H', W', 3) in RGB.

    Raises:
        ValueError: there is no frame, or masks do not match the expressions or their frame.
    """
    sections = [(heading, frames) for heading, frames in sections if frames]
    if not sections:
        raise ValueError('expected at least one frame for a sheet, got none')
    first = check_frame(sections[0][1][0].image, 'the first frame of the sheet')
    # A frame that is brought into a tile keeps its aspect ratio.
    scale = min(tile[0] / first.shape[1], tile[1] / first.shape[0])
    size = tuple(max(1, round(side * scale)) for side in first.shape[1::-1])
    visualizer = RefVOSLocalVisualizer(min_width=size[0])
    seen = np.zeros(len(expressions), dtype=bool)
    parts = []
    for heading, frames in sections:
        tiles = []
        for frame in frames:
            image, masks, texts = frame.image, frame.masks, expressions
            check_frame(image, f'frame {frame.label!r} of the sheet')
            if masks is None:
                texts, masks = [], np.zeros((0, *image.shape[:2]), dtype=bool)
            expected = (len(texts), *image.shape[:2])
            if masks.shape != expected:
                raise ValueError(f'frame {frame.label!r} of the sheet: expected masks (E, H, W) = '
                                 f'{expected}, got {masks.shape}')
            if texts:
                seen |= masks.any(axis=(1, 2))
            if image.shape[1] > size[0]:
                image, masks = shrink_frame(image, masks, size)
            drawn = visualizer.draw_frame(image, masks, texts, legend=False)
            tiles.append(np.concatenate(
                [title_strip(frame.label, _WHITE, drawn.shape[1], _LABEL_SIZE), drawn]))
        parts.append((heading, contact_sheet(tiles, columns)))
    width = max(sheet.shape[1] for _, sheet in parts)
    font_size = max(_LABEL_SIZE, min(26, width // 64))
    rows = [title_strip(title, _WHITE, width, font_size)]
    for e, (text, is_seen) in enumerate(zip(expressions, seen)):
        rows.append(title_strip(f'{_FULL if is_seen else _HOLLOW} {text}', visualizer.color(e),
                                width, font_size))
    for heading, sheet in parts:
        rows.append(title_strip(heading, _GREY, width, font_size))
        rows.append(np.pad(sheet, ((0, 0), (0, width - sheet.shape[1]), (0, 0)),
                           constant_values=GROUND))
    return np.concatenate(rows)


def shrink_frame(image: np.ndarray, masks: np.ndarray,
                 size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Make a frame and its masks smaller; an object of few pixels stays visible.

    Args:
        image: uint8 (H, W, 3).
        masks: bool (E, H, W).
        size: width and height of the result.

    Returns:
        Both at that size.
    """
    image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    small = [cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA) for mask in
             masks]
    return image, np.array([mask >= min(0.5, mask.max()) if mask.any() else mask > 0
                            for mask in small], dtype=bool).reshape(len(masks), *size[::-1])
