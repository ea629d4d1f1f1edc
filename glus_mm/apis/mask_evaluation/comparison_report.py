"""A page that shows how two systems differ: one HTML file without scripts and without links."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import cv2
import numpy as np

from glus_mm.evaluation.comparison import Comparison, ComparisonRow, p_text
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
    """Write the page.

    Args:
        comparison: what was found.
        examples: headings with the examples below them.
        notes: lines for the end of the page, such as what was not at hand.

    Returns:
        HTML in UTF-8. Names and expressions are shown as text, whatever they hold.
    """
    first, second = (escape(name) for name in comparison.names)
    overall = comparison.rows[0]
    visualizer = RefVOSLocalVisualizer(min_width=THUMBNAIL_WIDTH, alpha=0.5)
    sections = ''
    for heading, items in examples:
        shown = ''.join(_example(item, comparison.names, visualizer) for item in items)
        if shown:
            sections += f'<section><h2>{escape(heading)}</h2>{_THUMBNAIL_KEY}{shown}</section>'
    hints = ''.join(f'<li>{escape(note)}</li>' for note in notes)
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{second} against {first}</title><style>{_STYLE}</style></head><body><main>
<header><p class="eyebrow">{escape(comparison.protocol)} &middot; J&amp;F in percent</p>
<h1><span class="second">{second}</span> against <span class="first">{first}</span></h1>
<p class="verdict">{escape(comparison.verdict())}.</p></header>
<div class="cards">{_cards(overall, first, second)}</div>
<section><h2>Where they differ</h2>
<p class="lead">Dots are mean differences ({second} &minus; {first}), bars their 95&nbsp;% intervals
over videos. A coloured row is a difference that remains after the correction for the number of
slices.</p>
<div class="wide">{_forest(comparison)}</div></section>
<section><h2>Video by video</h2>
<p class="lead">One dot for each video, larger the more expressions it has; above the line
{second} is ahead.</p>{_scatter(comparison)}</section>
{sections}
<footer><ul>{hints}</ul><p>Intervals: studentised bootstrap over videos, whose expressions stay
together; p-values of the slices corrected by Holm. Made by glus_mm {__version__}.</p></footer>
</main></body></html>
"""


def _cards(row: ComparisonRow, first: str, second: str) -> str:
    found = row.difference
    if found.low is None:
        below = 'too few videos for an interval'
    else:
        below = (f'{_signed(found.low)} .. {_signed(found.high)} (95&nbsp;%), '
                 f'{escape(p_text(row.p))}')
    cards = [('first', first, f'{100 * row.first:.1f}', f'{found.expressions} expressions'),
             ('second', second, f'{100 * row.second:.1f}', f'{found.videos} videos'),
             ('difference', 'Difference', _signed(found.mean), below)]
    return ''.join(f'<div class="card {kind}"><p>{title}</p><strong>{value}</strong>'
                   f'<small>{below}</small></div>' for kind, title, value, below in cards)


def _signed(share: float, digits: int = 1) -> str:
    """A difference in percent with its sign, and a minus that is as wide as a plus."""
    text = f'{100 * share:+.{digits}f}'.replace('-', '\N{MINUS SIGN}')
    return text[1:] if not text.strip('+\N{MINUS SIGN}0.') else text


def _forest(comparison: Comparison) -> str:
    """A table with the rows, each with its interval drawn on a common axis."""
    ends = [abs(end) for row in comparison.rows
            for end in (row.difference.mean, row.difference.low, row.difference.high)
            if end is not None]
    limit = _nice(100 * max(ends)) / 100
    lines, attribute = [], None
    for row in comparison.rows:
        title = row.rule.title if row.rule else 'all expressions'
        if title != attribute:
            unit = f' <small>{escape(row.rule.unit)}</small>' if row.rule and row.rule.unit else ''
            shown = '' if row.rule else ' class="all"'
            if row.rule:
                lines.append(f'<tr class="group"><th colspan="7">{escape(title)}{unit}</th></tr>')
            attribute = title
        found = row.difference
        label = escape(row.label if row.rule else title)
        kind = {1: 'first', 2: 'second', None: ''}[row.better]
        p = '<td class="few">few videos</td>' if row.p is None else \
            f'<td>{escape(p_text(row.p)[2:].removeprefix("= "))}</td>'
        shown = f' class="{kind}{" all" if row.rule is None else ""}"'
        lines.append(
            f'<tr{shown}><th scope="row">{label}</th><td>{found.expressions}</td>'
            f'<td>{100 * row.first:.1f}</td><td>{100 * row.second:.1f}</td>'
            f'<td><b>{_signed(found.mean)}</b></td><td class="plot">{_interval(row, limit)}</td>'
            f'{p}</tr>')
    first, second = (escape(name) for name in comparison.names)
    axis = ''.join(f'<text x="{_place(tick, limit):.1f}" y="12">{_signed(tick, 0)}</text>'
                   for tick in (-limit, -limit / 2, 0, limit / 2, limit))
    return (f'<table class="forest"><thead><tr><th></th><th>n</th><th class="name">{first}</th>'
            f'<th class="name">{second}</th><th>diff.</th><th class="plot"><svg viewBox="0 0 320 '
            f'16" role="presentation">{axis}</svg></th><th>p</th></tr></thead>'
            f'<tbody>{"".join(lines)}</tbody></table>')


def _nice(value: float) -> float:
    """The next round number in percent for the end of an axis, at least 1."""
    for step in (1, 2, 4, 6, 10, 20, 30, 40, 50, 60, 80):
        if value <= step:
            return step
    return 100


def _place(value: float, limit: float) -> float:
    return 160 + 145 * max(-1.0, min(1.0, value / limit))


def _interval(row: ComparisonRow, limit: float) -> str:
    found = row.difference
    grid = ''.join(f'<line class="{"zero" if not part else "grid"}" '
                   f'x1="{_place(part, 1):.1f}" x2="{_place(part, 1):.1f}" y1="0" y2="24"/>'
                   for part in (-1, -0.5, 0, 0.5, 1))
    bar = ''
    if found.low is not None:
        low, high = _place(found.low, limit), _place(found.high, limit)
        bar = (f'<line class="bar" x1="{low:.1f}" x2="{high:.1f}" y1="12" y2="12"/>'
               f'<line class="bar" x1="{low:.1f}" x2="{low:.1f}" y1="8" y2="16"/>'
               f'<line class="bar" x1="{high:.1f}" x2="{high:.1f}" y1="8" y2="16"/>')
    hollow = ' hollow' if found.low is None else ''
    return (f'<svg viewBox="0 0 320 24" role="presentation">{grid}{bar}<circle class="dot{hollow}" '
            f'cx="{_place(found.mean, limit):.1f}" cy="12" r="4.5"/></svg>')


def _scatter(comparison: Comparison) -> str:
    """Means of the videos, the first system to the right and the second one upwards."""
    videos: dict[str, list] = {}
    for item in comparison.expressions:
        videos.setdefault(item.video, []).append(item)
    dots = []
    for video, items in sorted(videos.items(), key=lambda pair: -len(pair[1])):
        first, second = (float(np.mean([item.figures[name] for item in items]))
                         for name in ('first', 'second'))
        kind = 'second' if second > first else 'first'
        title = (f'{video}: {100 * first:.1f}, {100 * second:.1f}, {len(items)} '
                 f'expression{"s" if len(items) > 1 else ""}')
        dots.append(f'<circle class="{kind}" cx="{40 + 360 * first:.1f}" '
                    f'cy="{380 - 360 * second:.1f}" r="{min(9, 2 + len(items) ** 0.5):.1f}">'
                    f'<title>{escape(title)}</title></circle>')
    ticks = ''.join(
        f'<line class="grid" x1="{40 + 3.6 * t}" x2="{40 + 3.6 * t}" y1="20" y2="380"/>'
        f'<line class="grid" x1="40" x2="400" y1="{380 - 3.6 * t}" y2="{380 - 3.6 * t}"/>'
        f'<text x="{40 + 3.6 * t}" y="396">{t}</text>'
        f'<text class="left" x="34" y="{384 - 3.6 * t}">{t}</text>' for t in (0, 25, 50, 75, 100))
    # Long names would run into one another.
    first, second = (escape(name if len(name) < 40 else name[:38] + '\N{HORIZONTAL ELLIPSIS}')
                     for name in comparison.names)
    return (f'<svg class="scatter" viewBox="0 0 410 425" role="img" aria-label="J&amp;F of both '
            f'systems by video">{ticks}<line class="zero" x1="40" y1="380" x2="400" y2="20"/>'
            f'{"".join(dots)}<text x="220" y="418" class="first">{first}</text>'
            f'<text x="-200" y="10" transform="rotate(-90)" class="second">{second}</text></svg>')


def _example(example: ReportExample, names: tuple[str, str],
             visualizer: RefVOSLocalVisualizer) -> str:
    rows = [('truth', 'ground truth', None), ('first', names[0], example.scores[0]),
            ('second', names[1], example.scores[1])]
    lines = []
    for place, (kind, name, score) in enumerate(rows):
        figure = '' if score is None else f'<b>{100 * score:.1f}</b>'
        images = ''.join(_thumbnail(frame, place, f'{example.where}, frame {frame.name}: {name}',
                                    visualizer)
                         for frame in example.frames if frame.masks[place] is not None)
        lines.append(f'<div class="row"><p class="{kind}">{escape(name)}{figure}</p>{images}</div>')
    gain = _signed(example.scores[1] - example.scores[0])
    return (f'<article><h3>&ldquo;{escape(example.text)}&rdquo; <span>{gain}</span></h3>'
            f'<p class="where">{escape(example.where)}</p>{"".join(lines)}</article>')


def _thumbnail(frame: ReportFrame, place: int, alt: str,
               visualizer: RefVOSLocalVisualizer) -> str:
    """The frame with the truth (0), or with a system's mask and the truth's outline, as HTML."""
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
    figure = frame.name
    if place:
        lines, _ = cv2.findContours(masks[1].astype(np.uint8), cv2.RETR_CCOMP,
                                    cv2.CHAIN_APPROX_NONE)
        drawn = np.ascontiguousarray(drawn)
        cv2.drawContours(drawn, lines, -1, (255, 255, 255), 1, cv2.LINE_AA)
        figure = f'{100 * frame.scores[place - 1]:.0f}'
    ok, data = cv2.imencode('.jpg', cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR),
                            [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    if not ok:
        raise ValueError(f'expected a frame of {alt} that can be encoded, got {drawn.shape}')
    source = base64.b64encode(data.tobytes()).decode('ascii')
    return (f'<figure><img width="{size[0]}" height="{size[1]}" alt="{escape(alt)}" '
            f'src="data:image/jpeg;base64,{source}"><figcaption>{escape(figure)}</figcaption>'
            '</figure>')


_THUMBNAIL_KEY = ('<p class="lead">Frames on which the two differ most. White outline: ground '
                  'truth; numbers: J&amp;F of the expression and of the frame.</p>')
_STYLE = """
:root{--first:#0072b2;--second:#d55e00;--truth:#009e73;--ink:#1b2430;--soft:#5d6b7a;--line:#e3e8ee}
*{box-sizing:border-box}
body{margin:0;background:#f5f7fa;color:var(--ink);
font:15px/1.5 -apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,"DejaVu Sans",sans-serif}
main{overflow-wrap:anywhere;max-width:1120px;margin:0 auto;padding:32px 24px 48px}
h1{font-size:30px;line-height:1.2;margin:4px 0 10px}
h2{font-size:19px;margin:0 0 4px}
h3{font-size:16px;margin:0;font-weight:600}
h3 span{color:var(--soft);font-weight:400;white-space:nowrap}
.eyebrow{margin:0;color:var(--soft);font-size:13px;letter-spacing:.03em}
.verdict{font-size:17px;margin:0 0 20px;max-width:75ch}
.lead,.where,footer{color:var(--soft);font-size:14px;margin:0 0 14px}
.first{color:var(--first)}.second{color:var(--second)}.truth{color:var(--truth)}
.cards{display:flex;flex-wrap:wrap;gap:14px;margin-bottom:18px}
.card{flex:1 1 220px;background:#fff;border:1px solid var(--line);border-top:4px solid var(--soft);
border-radius:8px;padding:14px 18px;min-width:0}
.card.first{border-top-color:var(--first)}.card.second{border-top-color:var(--second)}
.card p{margin:0;font-weight:600}.card strong{display:block;font-size:32px;
line-height:1.25;color:var(--ink);font-variant-numeric:tabular-nums}.card small{color:var(--soft)}
section{background:#fff;border:1px solid var(--line);border-radius:8px;padding:20px 22px;
margin-bottom:18px}
.wide{overflow-x:auto}
table.forest{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
.forest td,.forest th{overflow-wrap:normal}
.forest td,.forest thead th{padding:2px 8px;text-align:right;white-space:nowrap}
.forest thead th{color:var(--soft);font-weight:600;font-size:13px;vertical-align:bottom;
border-bottom:1px solid var(--line)}
.forest thead th.name{max-width:120px;overflow:hidden;text-overflow:ellipsis}
.forest thead th:nth-child(3){color:var(--first)}.forest thead th:nth-child(4){color:var(--second)}
.forest tbody th{font-weight:400;text-align:left;padding:2px 8px 2px 20px}
.forest .group th{font-weight:600;padding:9px 8px 1px 8px}.group small{font-weight:400;
color:var(--soft)}
.forest .all th{font-weight:600;padding-left:8px}.forest .all td{padding-top:6px;padding-bottom:6px}
.forest td.plot,.forest th.plot{width:36%;min-width:230px;padding:0 8px}
.forest td.few{color:var(--soft);font-size:13px}
.forest tr.first{background:#eaf3f9;color:inherit}
.forest tr.second{background:#fcefe6;color:inherit}
.forest tr.first b{color:var(--first)}.forest tr.second b{color:#b04e00}
svg{display:block;width:100%;height:auto;font-size:11px;fill:var(--soft)}
svg text{text-anchor:middle}svg text.left{text-anchor:end}
svg text.first{fill:var(--first);font-size:13px;font-weight:600}
svg text.second{fill:var(--second);font-size:13px;font-weight:600}
.grid{stroke:#edf0f4;stroke-width:1}.zero{stroke:#9aa7b4;stroke-width:1}
.bar{stroke:var(--soft);stroke-width:2}.dot{fill:var(--soft);stroke:var(--soft);stroke-width:1.5}
.dot.hollow{fill:#fff}
tr.first .bar{stroke:var(--first)}tr.first .dot{fill:var(--first);stroke:var(--first)}
tr.second .bar{stroke:var(--second)}tr.second .dot{fill:var(--second);stroke:var(--second)}
svg.scatter{max-width:470px;margin:0 auto}
.scatter circle{fill-opacity:.55;stroke:#fff;stroke-width:.7}
.scatter circle.first{fill:var(--first)}.scatter circle.second{fill:var(--second)}
article{border-top:1px solid var(--line);padding:14px 0 6px}
article:first-of-type{border-top:0}
.where{margin-bottom:8px}
.row{display:flex;gap:6px;align-items:center;margin-bottom:6px}
.row>p{flex:0 0 104px;margin:0;font-size:13px;font-weight:600;line-height:1.3;}
.row>p b{display:block;font-size:18px;font-variant-numeric:tabular-nums}
figure{position:relative;margin:0;flex:0 1 240px;min-width:0}
figure img{display:block;width:100%;height:auto;border-radius:4px}
figcaption{position:absolute;right:5px;bottom:5px;background:rgba(15,20,26,.72);color:#fff;
font-size:11px;line-height:1;padding:3px 5px;border-radius:3px}
footer{padding:4px 4px 0}footer ul{margin:0 0 6px;padding-left:18px}
@media(max-width:640px){main{padding:16px 10px}section{padding:14px 12px}.row{flex-wrap:wrap}
.row>p{flex-basis:100%}figure{flex:1 1 20%}}
@media print{body{background:#fff}section,.card{break-inside:avoid}}
"""
