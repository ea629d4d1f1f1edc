"""Whether two systems differ: the figures of the same expressions, in pairs, slice by slice."""

from collections.abc import Mapping
from dataclasses import dataclass

from glus_mm.evaluation.bootstrap import LEVEL, MIN_VIDEOS, ClusterMean, holm
from glus_mm.evaluation.slices import Attributes, Slice, SlicedExpression, SliceRule, make_slices

NO_TARGET = SliceRule('no_target', 'without a target')
_FIRST, _SECOND = 'first', 'second'


@dataclass(frozen=True)
class ComparisonRow:
    """Two systems on one slice.

    Attributes:
        rule: attribute of the slice; None = all expressions.
        label: its bin.
        first: mean J&F of the first system, as a fraction of 1; N-acc for expressions without a
            target.
        second: of the second one.
        difference: second - first.
        p: p-value that decides; of all slices but the first row together corrected by Holm. None
            with too few videos.
    """

    rule: SliceRule | None
    label: str
    first: float
    second: float
    difference: ClusterMean
    p: float | None

    @property
    def better(self) -> int | None:
        """1 or 2, the system that is shown to be better; None where no difference is shown."""
        if self.p is None or self.p >= 1 - LEVEL:
            return None
        return 2 if self.difference.mean > 0 else 1


@dataclass(frozen=True)
class Comparison:
    """Two systems on one data set.

    Attributes:
        protocol: how J and F were computed.
        names: of the two systems.
        expressions: those with a target, with J&F of both as 'first' and 'second'.
        rows: all expressions, then the slices.
    """

    protocol: str
    names: tuple[str, str]
    expressions: tuple[SlicedExpression, ...]
    rows: tuple[ComparisonRow, ...]

    def verdict(self) -> str:
        """Whether they differ over all, in one sentence."""
        row = self.rows[0]
        found = row.difference
        what = f'{100 * found.mean:+.2f} J&F'
        of = f'{found.videos} videos, {found.expressions} expressions'
        if found.low is None:
            return (f'{self.names[1]} against {self.names[0]}: {what} on {of}; at least '
                    f'{MIN_VIDEOS} videos are needed to tell whether that is more than chance')
        # Always better - worse, so that no reader has to turn it round.
        sign = -1 if row.better == 1 else 1
        low, high = sorted((sign * found.low, sign * found.high))
        ends = f'95 % interval {100 * low:+.2f} .. {100 * high:+.2f}, {p_text(row.p)}'
        if row.better is None:
            return (f'No difference is shown between {self.names[0]} and {self.names[1]}: {what} '
                    f'({ends}; {of})')
        better, worse = self.names[::sign * -1]
        return (f'{better} is better than {worse} by {100 * abs(found.mean):.2f} J&F ({ends}; '
                f'{of})')

    def document(self) -> dict:
        """The comparison as a JSON document, shares as fractions of 1."""
        return {
            'protocol': self.protocol, 'first': self.names[0], 'second': self.names[1],
            'verdict': self.verdict(),
            'rows': [{
                'slice': row.rule.name if row.rule else 'all', 'bin': row.label,
                'expressions': row.difference.expressions, 'videos': row.difference.videos,
                'first': row.first, 'second': row.second, 'difference': row.difference.mean,
                'interval': None if row.difference.low is None
                else [row.difference.low, row.difference.high],
                'p': row.difference.p, 'p_corrected': row.p,
                'better': None if row.better is None else self.names[row.better - 1],
            } for row in self.rows]}

    def table(self) -> str:
        """Lay the rows out for people, in percent, with the verdict above."""
        heads = [f'{row.rule.title}: {row.label}' if row.rule else row.label for row in self.rows]
        left = max(map(len, heads))
        lines = [self.verdict(), '',
                 f'{"":{left}}  {"n":>6}  {"videos":>6}  {"first":>6}  {"second":>6}  '
                 f'{"diff.":>6}  {"95 % interval":>16}  {"p":>8}']
        for head, row in zip(heads, self.rows):
            found = row.difference
            line = (f'{head:{left}}  {found.expressions:6d}  {found.videos:6d}  '
                    f'{100 * row.first:6.2f}  {100 * row.second:6.2f}  {100 * found.mean:+6.2f}  ')
            if found.low is None:
                lines.append(line + f'{"too few videos":>16}')
                continue
            interval = f'{100 * found.low:+.2f} .. {100 * found.high:+.2f}'
            shown = '' if row.better is None else f'  {self.names[row.better - 1]} is better'
            lines.append(line + f'{interval:>16}  {row.p:8.4f}{shown}')
        lines.append(f'first: {self.names[0]}, second: {self.names[1]}; J&F in percent; p of the '
                     'slices corrected by Holm')
        return '\n'.join(lines)


def compare_figures(protocol: str, names: tuple[str, str],
                    figures: tuple[Mapping[str, Mapping], Mapping[str, Mapping]],
                    attributes: Mapping[str, tuple[str, Attributes]]) -> Comparison:
    """Compare two systems.

    Args:
        protocol: name of the protocol.
        names: of the two systems.
        figures: 'per_expression' of the JSON document of each.
        attributes: for each key of the two the video and its attributes.

    Raises:
        ValueError: they are not about the same expressions of this annotation, or none of these
            has a target.
    """
    for name, one, other, other_name in zip(names, figures, figures[::-1], names[::-1]):
        lone = sorted(one.keys() - other.keys())
        if lone:
            raise ValueError(f'expected figures of the same expressions, got {lone[0]!r} of '
                             f'{name} and not of {other_name} ({len(lone)} in all); '
                             '--missing empty gives both the same')
    unknown = sorted(figures[0].keys() - attributes.keys())
    if unknown:
        raise ValueError(f'expected figures of expressions of this annotation, got '
                         f'{unknown[0]!r}, which is none ({len(unknown)} in all)')
    pairs = {True: [], False: []}
    for key in sorted(figures[0]):
        entries = [of_system[key] for of_system in figures]
        has_target = entries[0].get('has_target', True)
        values = [entry['J&F'] if has_target else float(not entry['predicted'])
                  for entry in entries]
        video, of_expression = attributes[key]
        pairs[has_target].append(SlicedExpression(
            key, video, dict(zip((_FIRST, _SECOND), values)), of_expression))
    if not pairs[True]:
        raise ValueError('expected at least one expression with a target to compare two systems '
                         f'on, got {len(figures[0])} without any')
    slices = make_slices(pairs[True])
    if pairs[False]:
        slices.append(Slice(NO_TARGET, 'N-acc', tuple(pairs[False])))
    found = [(item.rule, item.label, item.average(_FIRST), item.average(_SECOND),
              item.interval(difference_of)) for item in slices]
    tested = [place for place, row in enumerate(found) if row[-1].p is not None and place]
    corrected = dict(zip(tested, holm([found[place][-1].p for place in tested])))
    corrected[0] = found[0][-1].p
    rows = tuple(ComparisonRow(*row, corrected.get(place)) for place, row in enumerate(found))
    return Comparison(protocol, names, tuple(pairs[True]), rows)


def difference_of(item: SlicedExpression) -> float:
    """Second minus first figure of a pair."""
    return item.figures[_SECOND] - item.figures[_FIRST]


def p_text(p: float) -> str:
    """A p-value for people."""
    return 'p < 0.001' if p < 0.001 else f'p = {p:.3f}'
