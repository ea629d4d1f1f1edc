"""What all protocols share: figures by frame, how they are averaged and shown."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Track:
    """What is kept of one expression or object: some figures per frame, never masks.

    Attributes:
        dataset: name of the data set.
        video_id: the video.
        exp_id: the expression; the number of the object in the DAVIS protocols.
        values: by measure (``'J'``, ``'F'``, ...) one figure per frame (T).
        kind: kind of expression where the data set states one.
        has_target: whether objects are annotated for it; they need not be visible on any frame.
        predicted: whether anything was predicted on any frame.
        video_unpredicted: whether there was no prediction at all for the video, which the protocol
            scores 0.
        part: which of several evaluations it belongs to (``'anno_2'``), where there are several.
        notes: what else is listed with its figures.
        frames: what else is listed of its frames, and never averaged: lists (T) by name.
    """

    dataset: str
    video_id: str
    exp_id: str
    values: dict[str, list[float]]
    kind: str | None = None
    has_target: bool = True
    predicted: bool = True
    video_unpredicted: bool = False
    part: str | None = None
    notes: dict[str, str | float | int | None] = field(default_factory=dict)
    frames: dict[str, list[float]] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What identifies and orders tracks."""
        return self.dataset, self.video_id, self.exp_id, self.part or ''

    @property
    def name(self) -> str:
        """The key of the official scripts, ``<video>_<expression>``."""
        return f'{self.video_id}_{self.exp_id}'

    def mean(self, measure: str) -> float:
        """Mean of a measure over the frames."""
        return float(np.mean(self.values[measure]))


Figures = dict[str, float | int]
"""Shares of 1 (float) and counts (int), by name."""


@dataclass(frozen=True)
class Summary:
    """Figures of a data set.

    Attributes:
        dataset: of the whole.
        parts: of its parts (kinds of expressions, annotators), by name.
        remarks: lines below the table, for people.
    """

    dataset: Figures
    parts: dict[str, Figures] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()

    def in_percent(self) -> Figures:
        """All figures in one dict, those of parts as ``<part>/<figure>``, shares in percent."""
        flat = dict(self.dataset)
        for part, figures in self.parts.items():
            flat.update({f'{part}/{name}': value for name, value in figures.items()})
        return {name: 100 * value if isinstance(value, float) else value
                for name, value in flat.items()}


class BaseProtocol(ABC):
    """A protocol: what is measured on a frame, and how the figures are averaged.

    Class attributes:
        name: of the protocol.
        unit: what a track is, ``'expression'`` or ``'object'``.
        part_key: under which key of the JSON document the figures of the parts stand; None = among
            those of the data set.
        total_name: label of the last line of the table.
        unpredicted_video_is_zero: where missing masks count as empty, all figures of a video
            without any mask are 0.
    """

    name: str
    unit: str
    part_key: str | None = None
    total_name: str = 'all'
    unpredicted_video_is_zero: bool = False

    @abstractmethod
    def summarise(self, tracks: Sequence[Track]) -> Summary:
        """Average the figures of a data set.

        Args:
            tracks: sorted, so that sums do not depend on who computed what.

        Returns:
            The figures. One that would be over nothing is left out.
        """

    def track_figures(self, track: Track) -> Figures:
        """Figures of one expression or object over its frames, not rounded."""
        return with_mean({measure: track.mean(measure) for measure in track.values})

    def track_notes(self, track: Track) -> dict:
        """What is listed of an expression or object beside its figures."""
        return dict(track.notes)

    def document(self, tracks: Sequence[Track], summary: Summary) -> dict:
        """All figures as one JSON document, shares as fractions of 1.

        Args:
            tracks: sorted.
            summary: what ``summarise`` returned for them.

        Returns:
            'dataset', 'per_expression' or 'per_object', and 'per_frame'. The latter two have keys
            ``<video>_<expression>``, or ``<dataset>/<video>/<expression>`` where two would be
            equal. Figures of parts stand in 'dataset' or under ``part_key``.
        """
        document: dict = {'protocol': self.name, 'dataset': dict(summary.dataset)}
        if self.part_key is not None and summary.parts:
            document[self.part_key] = dict(summary.parts)
        elif self.part_key is None:
            document['dataset'].update(summary.parts)
        count = Counter(track.name for track in tracks)
        keys = [track.name if count[track.name] == 1 else '/'.join(track.key[:3])
                for track in tracks]
        document[f'per_{self.unit}'] = {
            key: dict(self.track_figures(track), **self.track_notes(track))
            for key, track in zip(keys, tracks)}
        document['per_frame'] = {
            key: dict(_frames_with_mean(track.values),
                      **{name: list(values) for name, values in track.frames.items()})
            for key, track in zip(keys, tracks)}
        return document

    def table(self, summary: Summary) -> str:
        """Lay the figures out for people, in percent: a line for each part and one for all.

        Accuracies and what is derived from them, which the remarks have, are in no column.
        """
        rows = [*summary.parts.items()]
        if self.total_name not in summary.parts:
            rows.append((self.total_name, summary.dataset))
        rows = [(name, figures) for name, figures in rows if 'J' in figures]
        columns = list(dict.fromkeys(
            name for _, figures in rows for name, value in figures.items()
            if isinstance(value, float) and name != 'Final' and not name.endswith('-acc')))
        left = max((len(name) for name, _ in rows), default=0)
        widths = [max(len(column), 6) for column in columns]
        lines = [f'{"":{left}}  {"n":>6}  '
                 + '  '.join(f'{c:>{w}}' for c, w in zip(columns, widths))] * bool(rows)
        for name, figures in rows:
            cells = (f'{100 * figures[c]:{w}.2f}' if c in figures else f'{"-":>{w}}'
                     for c, w in zip(columns, widths))
            lines.append(f'{name:{left}}  {figures[f"{self.unit}s"]:6d}  ' + '  '.join(cells))
        return '\n'.join([*lines, *summary.remarks])


def with_mean(figures: Figures) -> Figures:
    """Add 'J&F', the mean of J and F, after F; one that is there already is replaced."""
    result: Figures = {}
    for name, value in figures.items():
        if name != 'J&F':
            result[name] = value
        if name == 'F':
            result['J&F'] = (figures['J'] + value) / 2
    return result


def _frames_with_mean(values: dict[str, list[float]]) -> dict[str, list[float]]:
    """Add 'J&F' of each frame after F."""
    rows = [with_mean(dict(zip(values, row))) for row in zip(*values.values())]
    return {name: [row[name] for row in rows] for name in rows[0]} if rows else dict(values)


def mean_figures(rows: Sequence[Figures]) -> Figures:
    """Plain means over rows that have the same figures; nothing where there is no row."""
    if not rows:
        return {}
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
