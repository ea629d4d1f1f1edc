"""What was compared, how far it was off, and whether that is allowed."""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

HEADER = ('part', 'comparison', 'values', 'largest difference', 'tolerance', '')


class FixtureError(Exception):
    """A part of the fixture that should be there is missing or unreadable."""


@dataclass
class Row:
    """One line of the table.

    Attributes:
        part: the file or step that it belongs to.
        name: what is compared.
        tolerance: largest difference that is allowed; None states something without a verdict.
        values: how many values were compared.
        largest: the largest difference; NaN where values cannot be compared.
        note: what is worth knowing besides.
    """

    part: str
    name: str
    tolerance: float | None
    values: int = 0
    largest: float = 0.0
    note: str = ''

    @property
    def ok(self) -> bool:
        """Whether it is as it should be; nothing compared is not, and neither is NaN."""
        return self.tolerance is None or (self.values > 0 and self.largest <= self.tolerance)

    @property
    def verdict(self) -> str:
        """Last column of the table."""
        return '-' if self.tolerance is None else 'ok' if self.ok else 'FAILED'


class Report:
    """Collect comparisons; those of the same part and name make one row.

    Attributes:
        rows: in the order in which they first came.
        part: what the following comparisons belong to.
    """

    def __init__(self) -> None:
        self.part = ''
        self._rows: dict[tuple[str, str], Row] = {}

    @property
    def rows(self) -> list[Row]:
        """All rows."""
        return list(self._rows.values())

    @property
    def ok(self) -> bool:
        """Whether anything was compared, and nothing failed."""
        return bool(self._rows) and all(row.ok for row in self.rows)

    def close(self, name: str, ours: Any, official: Any, tolerance: float) -> None:
        """Compare numbers, array-like and of one shape, by their absolute difference."""
        self._measure(name, ours, official, tolerance, lambda a, b: np.abs(a - b))

    def relative(self, name: str, ours: Any, official: Any, tolerance: float) -> None:
        """Compare numbers by their difference relative to the official ones."""
        self._measure(name, ours, official, tolerance, lambda a, b: np.abs(a - b) / np.abs(b))

    def direction(self, name: str, ours: Any, official: Any, tolerance: float) -> None:
        """Compare whole arrays: the norm of the difference relative to the official norm."""
        self._measure(name, ours, official, tolerance,
                      lambda a, b: [np.linalg.norm(a - b) / np.linalg.norm(b)])

    def _measure(self, name: str, ours: Any, official: Any, tolerance: float,
                 difference: Callable[[np.ndarray, np.ndarray], Iterable[float]]) -> None:
        if self._alike(name, ours, official, tolerance):
            ours, official = (np.asarray(values, np.float64) for values in (ours, official))
            self.add(name, difference(ours, official), tolerance, values=ours.size)

    def same(self, name: str, ours: Any, official: Any) -> None:
        """Compare arrays, lists or sets that must be identical; counts what differs."""
        if isinstance(official, (set, frozenset)):
            different = sorted(map(str, set(ours) ^ official))
            self.add(name, [len(different)], 0, values=len(official),
                     note=f'only one has {different[:3]}' if different else '')
            return
        if self._alike(name, ours, official, 0):
            ours, official = np.asarray(ours), np.asarray(official)
            self.add(name, [int((ours != official).sum())], 0, values=official.size)

    def add(self, name: str, differences: Iterable[float], tolerance: float | None,
            values: int | None = None, note: str = '') -> None:
        """Add differences that were computed elsewhere.

        Args:
            name: what was compared.
            differences: of the values.
            tolerance: as in :class:`Row`.
            values: how many values that were, where not one per difference.
            note: as in :class:`Row`.
        """
        row = self._rows.setdefault((self.part, name), Row(self.part, name, tolerance))
        differences = np.asarray(differences, np.float64)
        row.values += differences.size if values is None else values
        if differences.size:
            # numpy's maximum keeps NaN, so that it cannot get lost among numbers.
            row.largest = float(np.maximum(row.largest, differences.max()))
        row.note = note or row.note

    def state(self, name: str, note: str) -> None:
        """Add a row without a verdict."""
        self.add(name, [], None, note=note)

    def fail(self, name: str, note: str) -> None:
        """Add a row that failed: something could not be compared."""
        self.add(name, [np.nan], 0, values=0, note=note)

    def run(self, part: str, check: Callable[['Report'], None]) -> None:
        """Run a check; a part of the fixture that is missing makes a row that failed."""
        self.part, before = part, len(self._rows)
        try:
            check(self)
        except FixtureError as error:
            self.fail('what the fixture should hold', str(error))
        if len(self._rows) == before:
            self.fail('anything to compare', 'nothing was found in the fixture')

    def table(self) -> str:
        """All rows as text."""
        cells = [HEADER, *(
            (row.part, row.name, '', '', '', '-') if row.tolerance is None else
            (row.part, row.name, f'{row.values}', f'{row.largest:.3g}',
             'identical' if row.tolerance == 0 else f'{row.tolerance:.3g}', row.verdict)
            for row in self.rows)]
        widths = [max(len(line[i]) for line in cells) for i in range(len(HEADER))]
        lines = ['  '.join(cell.rjust(width) if 2 <= i <= 4 else cell.ljust(width)
                           for i, (cell, width) in enumerate(zip(line, widths))).rstrip()
                 for line in cells]
        for i, row in enumerate(self.rows, start=1):
            if row.note:
                lines[i] += f'  ({row.note})'
        return '\n'.join([lines[0], '-' * len(lines[0]), *lines[1:]])

    def as_dict(self) -> dict:
        """All rows as plain values, for JSON, which has no NaN: None stands for it."""
        return dict(ok=self.ok, rows=[
            dict(asdict(row), largest=None if np.isnan(row.largest) else row.largest, ok=row.ok)
            for row in self.rows])

    def _alike(self, name: str, ours: Any, official: Any, tolerance: float) -> bool:
        """Whether the shapes agree; if not, the comparison failed."""
        shapes = np.shape(ours), np.shape(official)
        if shapes[0] != shapes[1]:
            self.add(name, [np.nan], tolerance, values=0,
                     note=f'expected the shape {shapes[1]}, got {shapes[0]}')
        return shapes[0] == shapes[1]
