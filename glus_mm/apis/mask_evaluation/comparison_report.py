"""A page that shows how two systems differ: one HTML file without scripts and without links."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from jinja2 import Environment, FileSystemLoader

from glus_mm.evaluation.comparison import Comparison, p_text
from glus_mm.version import __version__
from glus_mm.visualization import RefVOSLocalVisualizer
from glus_mm.visualization.legend import Color
from glus_mm.visualization.sheets import shrink_frame

# Okabe and Ito's blue and vermilion, and a green that is neither.
SYSTEM_COLORS: tuple[Color, Color] = ((0, 114, 178), (213, 94, 0))
TRUTH_COLOR: Color = (0, 158, 115)
THUMBNAIL_WIDTH = 240
_JPEG_QUALITY = 80


@dataclass(frozen=True)
class ReportFrame:
    """A frame of an example.

    Attributes:
        name: of the frame.
        image: uint8 (H, W, 3) in RGB.
        masks: truth, first and second system, each bool (H, W), or None where there is none.
        scores: J&F of the two systems on the frame, as fractions of 1.
    """

    name: str
    image: np.ndarray
    masks: Sequence[np.ndarray | None]
    scores: tuple[float, float]


@dataclass(frozen=True)
class ReportExample:
    """An expression with some of its frames.

    Attributes:
        text: the expression.
        where: video and id, for people.
        scores: J&F of the two systems, as fractions of 1.
        frames: some frames.
    """

    text: str
    where: str
    scores: tuple[float, float]
    frames: Sequence[ReportFrame]


def comparison_report(comparison: Comparison,
                      examples: Sequence[tuple[str, Sequence[ReportExample]]],
                      notes: Sequence[str] = ()) -> str:
    """Write the page, ``comparison_report.html`` filled in.

    Args:
        comparison: what was found.
        examples: headings with the examples below them.
        notes: lines for the end of the page, such as what was not at hand.

    Returns:
        HTML in UTF-8. Names and expressions are shown as text, whatever they hold.
    """
    limit = _nice(100 * max(
        abs(end) for row in comparison.rows
        for end in (row.difference.mean, row.difference.low, row.difference.high)
        if end is not None)) / 100
    videos: dict[str, list] = {}
    for item in comparison.expressions:
        videos.setdefault(item.video, []).append([item.figures['first'], item.figures['second']])
    # Small dots lie over large ones. The first system is to the right, the second one upwards.
    points = [(video, *np.mean(rows, axis=0).tolist(), len(rows))
              for video, rows in sorted(videos.items(), key=lambda pair: -len(pair[1]))]
    pages = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True,
                        trim_blocks=True, lstrip_blocks=True)
    return pages.get_template('comparison_report.html').render(
        comparison=comparison, limit=limit, videos=points, examples=examples, notes=notes,
        version=__version__, p_text=p_text, signed=_signed, place=_place, thumbnail=partial(
            _thumbnail, RefVOSLocalVisualizer(min_width=THUMBNAIL_WIDTH, alpha=0.5)))


def _signed(share: float, digits: int = 1) -> str:
    """A difference in percent with its sign, and a minus that is as wide as a plus."""
    text = f'{100 * share:+.{digits}f}'.replace('-', '\N{MINUS SIGN}')
    return text[1:] if not text.strip('+\N{MINUS SIGN}0.') else text


def _nice(value: float) -> float:
    """The next round number in percent for the end of an axis, at least 1."""
    for step in (1, 2, 4, 6, 10, 20, 30, 40, 50, 60, 80):
        if value <= step:
            return step
    return 100


def _place(value: float, limit: float) -> str:
    """Where a difference is on an axis of 320 units."""
    return f'{160 + 145 * max(-1.0, min(1.0, value / limit)):.1f}'


def _thumbnail(visualizer: RefVOSLocalVisualizer, frame: ReportFrame, place: int
               ) -> dict[str, str | int]:
    """The frame with the truth (0), or with a system's mask and the truth's outline, as an img."""
    height, width = frame.image.shape[:2]
    size = (THUMBNAIL_WIDTH, max(1, round(height * THUMBNAIL_WIDTH / width)))
    image, masks = frame.image, np.stack([frame.masks[place], frame.masks[0]])
    if width > size[0]:
        image, masks = shrink_frame(image, masks, size)
    elif width < size[0]:
        image = cv2.resize(image, size, interpolation=cv2.INTER_CUBIC)
        masks = np.array([cv2.resize(mask.astype(np.float32), size) for mask in masks]) >= 0.5
    drawn = visualizer.draw_frame(image, masks[:1], [''],
                                  colors=[(TRUTH_COLOR, *SYSTEM_COLORS)[place]], legend=False)
    if place:
        lines, _ = cv2.findContours(masks[1].astype(np.uint8), cv2.RETR_CCOMP,
                                    cv2.CHAIN_APPROX_NONE)
        drawn = np.ascontiguousarray(drawn)
        cv2.drawContours(drawn, lines, -1, (255, 255, 255), 1, cv2.LINE_AA)
    ok, data = cv2.imencode('.jpg', cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR),
                            [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    if not ok:
        raise ValueError(f'expected a frame {frame.name!r} that can be encoded, got {drawn.shape}')
    source = base64.b64encode(data.tobytes()).decode('ascii')
    return dict(width=size[0], height=size[1], src=f'data:image/jpeg;base64,{source}')
