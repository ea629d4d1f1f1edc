"""Text in pictures, and the legend of an overlay."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

Color = tuple[int, int, int]

MAX_LINES = 2
# More than this fits no two lines; measuring it would only take time.
_MAX_CHARACTERS = 400
_ELLIPSIS = '\N{HORIZONTAL ELLIPSIS}'
_PANEL_DARKENING = 0.32
GROUND = 32
_WHITE: Color = (255, 255, 255)


@lru_cache(maxsize=16)
def load_font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which ships with matplotlib, which need not be imported; ``size`` in pixels."""
    package = Path(find_spec('matplotlib').origin).parent
    path = package / 'mpl-data' / 'fonts' / 'ttf' / 'DejaVuSans.ttf'
    return ImageFont.truetype(str(path), size)


def font_size_for(width: int) -> int:
    """Font size in pixels that is readable on an image of that width."""
    return max(14, round(width / 36))


def wrap_text(text: str, font: ImageFont.FreeTypeFont, max_width: int,
              max_lines: int = MAX_LINES) -> list[str]:
    """Break a text into lines, between words where that is possible.

    Args:
        text: any text; white space is collapsed, and what is no valid Unicode is replaced.
        font: the font it is measured in.
        max_width: of a line, in pixels.
        max_lines: what does not fit into them is cut, which an ellipsis shows.

    Returns:
        1 to ``max_lines`` lines.
    """
    text = ' '.join(text.encode('utf-8', 'replace').decode('utf-8').split())
    rest = text if len(text) <= _MAX_CHARACTERS else text[:_MAX_CHARACTERS] + _ELLIPSIS
    lines = []
    while rest and len(lines) < max_lines:
        count = _fitting(rest, font, max_width)
        if count < len(rest) and len(lines) == max_lines - 1:
            count = _fitting(rest, font, max_width - int(font.getlength(_ELLIPSIS)))
            return [*lines, rest[:count].rstrip() + _ELLIPSIS]
        if count < len(rest):
            # A word that is longer than a line, or a script without spaces, breaks anywhere.
            space = rest.rfind(' ', 0, count + 1)
            count = space if space > 0 else count
        lines.append(rest[:count])
        rest = rest[count:].lstrip()
    return lines or ['']


def _fitting(text: str, font: ImageFont.FreeTypeFont, max_width: int) -> int:
    """Number of leading characters, at least one, that fit into ``max_width`` pixels."""
    return max(1, bisect_right(range(1, len(text) + 1), max_width,
                               key=lambda count: font.getlength(text[:count])))


def draw_caption(image: np.ndarray, text: str) -> np.ndarray:
    """Draw a short text, such as a frame's name, into the lower right corner.

    Args:
        image: uint8 (H, W, 3).
        text: drawn on one line.

    Returns:
        uint8 (H, W, 3), a new image.
    """
    height, width = image.shape[:2]
    size = max(11, round(font_size_for(width) * 0.75))
    font = load_font(size)
    line = wrap_text(text, font, width - size, max_lines=1)[0]
    panel_w, panel_h = min(width, round(font.getlength(line)) + size), round(size * 1.5)
    canvas = Image.fromarray(
        darken(image, height - panel_h, width - panel_w, panel_h, panel_w))
    ImageDraw.Draw(canvas).text((width - panel_w // 2, height - panel_h // 2), line,
                                fill=(255, 255, 255), font=font, anchor='mm')
    return np.asarray(canvas)


def title_strip(text: str, color: Color, width: int, font_size: int) -> np.ndarray:
    """Make a strip that holds a text on its one or two lines.

    Args:
        text: wrapped to the width.
        color: RGB of the text.
        width: of the strip, in pixels.
        font_size: in pixels.

    Returns:
        uint8 (h, width, 3).
    """
    font, pad, step = load_font(font_size), font_size // 2, round(font_size * 1.3)
    lines = wrap_text(text, font, max(1, width - 2 * pad))
    canvas = Image.new('RGB', (width, len(lines) * step + pad), (GROUND, ) * 3)
    draw = ImageDraw.Draw(canvas)
    for i, line in enumerate(lines):
        draw.text((pad, pad + i * step + step // 2), line, fill=color, font=font, anchor='lm')
    return np.asarray(canvas)


def darken(image: np.ndarray, top: int, left: int, height: int, width: int) -> np.ndarray:
    """A copy of an image with a rectangle darkened, so that text on it can be read.

    Args:
        image: uint8 (H, W, 3).
        top: first row.
        left: first column.
        height: rows.
        width: columns; what lies outside the image is left out.
    """
    image = image.copy()
    panel = image[max(0, top):top + height, max(0, left):left + width]
    panel[:] = (panel * _PANEL_DARKENING).astype(np.uint8)
    return image


@dataclass(frozen=True)
class LegendEntry:
    """One expression of a legend.

    Args:
        text: cut after two lines.
        color: RGB of the text and of the small box before it.
        filled: False draws the box as an outline, for an expression without a mask here.
        score: 0..1, stands before the text; None for none.
    """

    text: str
    color: Color
    filled: bool = True
    score: float | None = None

    @property
    def label(self) -> str:
        """The text with its score."""
        return self.text if self.score is None else f'{self.score:.2f}  {self.text}'


def draw_legend(image: np.ndarray, entries: Sequence[LegendEntry]) -> np.ndarray:
    """Draw a legend into the upper left corner, on a darkened panel.

    Entries that would cover more than half of the height are replaced by a count.

    Args:
        image: uint8 (H, W, 3).
        entries: (E); none leaves the image as it is.

    Returns:
        uint8 (H, W, 3), a new image.
    """
    return _draw(entries, image.shape[1], image) if entries else image.copy()


def legend_strip(entries: Sequence[LegendEntry], width: int) -> np.ndarray:
    """Make a strip with all entries, to stand below an image and cover nothing of it.

    Args:
        entries: (E), at least one.
        width: of the strip, in pixels.

    Returns:
        uint8 (h, width, 3); h depends on the texts and on whether they have scores alone.
    """
    return _draw(entries, width, None)


def _draw(entries: Sequence[LegendEntry], width: int, image: np.ndarray | None) -> np.ndarray:
    """Draw entries into a corner of an image, as many as fit into half of it, or into a strip."""
    size = font_size_for(width)
    font: ImageFont.FreeTypeFont = load_font(size)
    step, pad, box, left_off = round(size * 1.3), size // 2, round(size * 0.7), 0
    indent = 2 * pad + box
    blocks = [wrap_text(entry.label, font, width - indent - 2 * pad) for entry in entries]
    if image is not None:
        most = max(1, (image.shape[0] // 2 - pad) // step)
        while sum(map(len, blocks)) > most - bool(left_off):
            blocks.pop()
            left_off += 1
    rows = [line for lines in blocks for line in lines] + [f'+ {left_off} more'] * bool(left_off)
    height = len(rows) * step + pad
    if image is None:
        canvas = Image.new('RGB', (width, height), (GROUND, ) * 3)
    else:
        right = round(max(map(font.getlength, rows))) + indent + pad
        canvas = Image.fromarray(darken(image, 0, 0, height, min(width, right)))
    draw, top = ImageDraw.Draw(canvas), pad // 2
    for entry, lines in zip(entries, blocks):
        upper = top + (step - box) // 2
        draw.rectangle((pad, upper, pad + box, upper + box), outline=entry.color,
                       fill=entry.color if entry.filled else None, width=max(1, size // 8))
        for line in lines:
            draw.text((indent, top + step // 2), line, entry.color, font, 'lm')
            top += step
    if left_off:
        draw.text((indent, top + step // 2), rows[-1], _WHITE, font, 'lm')
    return np.asarray(canvas)
