"""Who is who on an image: a coloured box, the confidence and the text of every expression."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from glus_mm.visualization.text import Color, darken, font_size_for, load_font, wrap_text

_GROUND = 32
_WHITE: Color = (255, 255, 255)


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
    height, width = image.shape[:2]
    if not entries:
        return image.copy()
    layout = _Layout(width)
    blocks, left_off = _limit(layout.wrap(entries), layout.rows_in(height // 2))
    rows = [line for lines in blocks for line in lines]
    if left_off:
        rows.append(f'+ {left_off} more')
    canvas = Image.fromarray(darken(image, 0, 0, layout.height(len(rows)),
                                    min(width, layout.width(rows))))
    top = layout.draw(canvas, entries, blocks)
    if left_off:
        layout.line(canvas, top, rows[-1], _WHITE)
    return np.asarray(canvas)


def legend_strip(entries: Sequence[LegendEntry], width: int) -> np.ndarray:
    """Make a strip with all entries, to stand below an image and cover nothing of it.

    Args:
        entries: (E), at least one.
        width: of the strip, in pixels.

    Returns:
        uint8 (h, width, 3); h depends on the texts and on whether they have scores alone.
    """
    layout = _Layout(width)
    blocks = layout.wrap(entries)
    height = layout.height(sum(map(len, blocks)))
    canvas = Image.new('RGB', (width, height), (_GROUND, ) * 3)
    layout.draw(canvas, entries, blocks)
    return np.asarray(canvas)


class _Layout:
    """Sizes of a legend on an image of a width, in pixels."""

    def __init__(self, width: int) -> None:
        self.size = font_size_for(width)
        self.font: ImageFont.FreeTypeFont = load_font(self.size)
        self.step, self.pad, self.box = round(self.size * 1.3), self.size // 2, round(
            self.size * 0.7)
        self.indent = 2 * self.pad + self.box
        self.text_width = width - self.indent - 2 * self.pad

    def wrap(self, entries: Sequence[LegendEntry]) -> list[list[str]]:
        return [wrap_text(entry.label, self.font, self.text_width) for entry in entries]

    def rows_in(self, height: int) -> int:
        return max(1, (height - self.pad) // self.step)

    def height(self, rows: int) -> int:
        return rows * self.step + self.pad

    def width(self, rows: Sequence[str]) -> int:
        return round(max(map(self.font.getlength, rows))) + self.indent + self.pad

    def draw(self, canvas: Image.Image, entries: Sequence[LegendEntry],
             blocks: Sequence[Sequence[str]]) -> int:
        """Draw the entries that ``blocks`` has lines for; returns the top of what follows."""
        draw, top = ImageDraw.Draw(canvas), self.pad // 2
        for entry, lines in zip(entries, blocks):
            left, upper = self.pad, top + (self.step - self.box) // 2
            draw.rectangle((left, upper, left + self.box, upper + self.box), outline=entry.color,
                           fill=entry.color if entry.filled else None,
                           width=max(1, self.size // 8))
            for line in lines:
                self.line(canvas, top, line, entry.color)
                top += self.step
        return top

    def line(self, canvas: Image.Image, top: int, text: str, color: Color) -> None:
        ImageDraw.Draw(canvas).text((self.indent, top + self.step // 2), text, fill=color,
                                    font=self.font, anchor='lm')


def _limit(blocks: list[list[str]], max_rows: int) -> tuple[list[list[str]], int]:
    """Keep the blocks that fit into ``max_rows``, the note included; how many were left off."""
    if sum(map(len, blocks)) <= max_rows:
        return blocks, 0
    kept: list[list[str]] = []
    while len(kept) < len(blocks) and sum(map(len, kept)) + len(
            blocks[len(kept)]) <= max_rows - 1:
        kept.append(blocks[len(kept)])
    return kept, len(blocks) - len(kept)
