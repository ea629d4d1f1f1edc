"""Expressions by what makes them hard: how they are sorted into slices, and figures of each."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from glus_mm.evaluation.bootstrap import ClusterMean, cluster_mean

Attributes = Mapping[str, float | int | str | None]
"""What is known of an expression, by the names of :data:`SLICE_RULES`; None = it has none."""


@dataclass(frozen=True)
class SliceRule:
    """An attribute of expressions and its bins.

    Attributes:
        name: of the attribute.
        title: for people.
        unit: of its values, for people.
        edges: where the next bin begins, ascending; a value on an edge belongs to the upper bin.
            None = texts, each of which is a bin.
        labels: of the bins, one more than edges.
    """

    name: str
    title: str
    unit: str = ''
    edges: tuple[float, ...] | None = None
    labels: tuple[str, ...] = ()

    def bin_of(self, value: float | str | None) -> str | None:
        """Label of the bin that holds a value; None where there is no value."""
        if value is None or self.edges is None:
            return value
        return self.labels[sum(value >= edge for edge in self.edges)]

    def bins(self, values: Iterable[float | str | None]) -> list[str]:
        """Labels of the bins that hold any of some values, in their order."""
        found = {self.bin_of(value) for value in values} - {None}
        return sorted(found, key=self.labels.index if self.edges is not None else str)


SLICE_RULES = (
    SliceRule('kind', 'kind of expression'),
    SliceRule('size', 'target size', '% of the frame', (1, 5, 20),
              ('below 1 %', '1 to 5 %', '5 to 20 %', '20 % and more')),
    SliceRule('look_alikes', 'look-alikes', 'other annotated objects', (1, 2, 4),
              ('none', '1', '2 or 3', '4 and more')),
    SliceRule('first_seen', 'first appearance', '% of the video', (1e-9, 25),
              ('first frame', 'first quarter', 'later')),
    SliceRule('occlusion', 'occlusion', '%', (5, 25), ('below 5 %', '5 to 25 %', '25 % and more')),
    SliceRule('words', 'length of expression', 'words', (6, 11),
              ('up to 5', '6 to 10', 'above 10')),
    SliceRule('camera', 'camera motion', '% of the diagonal per frame', (0.2, 1),
              ('still', 'slow', 'fast')),
    SliceRule('frames', 'video length', 'frames', (41, 101), ('up to 40', '41 to 100',
                                                              'above 100')),
)
"""All attributes. docs/evaluation.md says how each is computed."""


@dataclass(frozen=True)
class SlicedExpression:
    """An expression with a target, for figures by slice.

    Attributes:
        key: what tells it from others.
        video: what tells its video from others.
        figures: its figures by name.
        attributes: see :data:`Attributes`.
    """

    key: str
    video: str
    figures: Mapping[str, float]
    attributes: Attributes


@dataclass(frozen=True)
class Slice:
    """Expressions that share a bin.

    Attributes:
        rule: whose bin; None = all expressions.
        label: of the bin.
        members: the expressions.
    """

    rule: SliceRule | None
    label: str
    members: tuple[SlicedExpression, ...]

    def average(self, figure: str) -> float:
        """Mean of a figure over the expressions."""
        return sum(member.figures[figure] for member in self.members) / len(self.members)

    def interval(self, figure: Callable[[SlicedExpression], float]) -> ClusterMean:
        """Mean over the expressions, with an interval over their videos."""
        by_video: dict[str, list[float]] = {}
        for member in self.members:
            by_video.setdefault(member.video, []).append(figure(member))
        return cluster_mean(by_video)


def make_slices(expressions: Sequence[SlicedExpression]) -> list[Slice]:
    """Sort expressions into slices.

    Returns:
        All of them, then each bin of each attribute that tells some of them apart; bins without
        expressions, and expressions without the attribute, are left out.
    """
    slices = [Slice(None, 'all', tuple(expressions))]
    for rule in SLICE_RULES:
        values = [item.attributes.get(rule.name) for item in expressions]
        labels = rule.bins(values)
        if len(labels) < 2:
            continue
        slices += [Slice(rule, label, tuple(
            item for item, value in zip(expressions, values) if rule.bin_of(value) == label))
            for label in labels]
    return slices


def slice_rows(slices: Sequence[Slice]) -> list[dict]:
    """Figures of slices, for the JSON document.

    Returns:
        For each 'slice', 'bin', 'expressions', 'videos', the mean of every figure that all
        expressions have, and 'J&F-interval': its 95 % interval, or None with too few videos.
    """
    rows = []
    for item in slices:
        names = [name for name in item.members[0].figures
                 if all(name in member.figures for member in item.members)]
        found = item.interval(lambda member: member.figures['J&F'])
        rows.append({
            'slice': item.rule.name if item.rule else 'all', 'bin': item.label,
            'expressions': found.expressions, 'videos': found.videos,
            **{name: item.average(name) for name in names},
            'J&F-interval': None if found.low is None else [found.low, found.high]})
    return rows


def slice_table(rows: Sequence[Mapping]) -> str:
    """Lay the figures of slices out for people, in percent."""
    titles = {rule.name: rule.title for rule in SLICE_RULES}
    heads = [f'{titles[row["slice"]]}: {row["bin"]}' if row['slice'] in titles else row['bin']
             for row in rows]
    left = max(map(len, heads))
    lines = [f'{"":{left}}  {"n":>6}  {"videos":>6}  {"J":>6}  {"F":>6}  {"J&F":>6}  '
             '95 % interval of J&F']
    for head, row in zip(heads, rows):
        ends = row['J&F-interval']
        interval = 'too few videos' if ends is None else ' .. '.join(
            f'{100 * end:.2f}' for end in ends)
        lines.append(f'{head:{left}}  {row["expressions"]:6d}  {row["videos"]:6d}  '
                     + '  '.join(f'{100 * row[name]:6.2f}' for name in ('J', 'F', 'J&F'))
                     + f'  {interval}')
    return '\n'.join(lines)
