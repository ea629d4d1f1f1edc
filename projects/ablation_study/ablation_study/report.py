"""The Markdown tables of a study."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ablation_study.differences import Difference, paired_bootstrap
from ablation_study.rows import (
    ALL,
    COMPARISONS,
    CROWD,
    DEFAULT,
    GROUPS,
    IN_SIGHT,
    LATE,
    ROWS,
    Comparison,
    Row,
)

# Of those of KeyFrameMetric: rank correlations between scores and IoUs, over all frames and within
# expressions, and the IoU in percent on the key frame, the first, any and the best one.
SELECTOR_FIGURES = ('spearman', 'spearman_within', 'iou_key', 'iou_first', 'iou_mean', 'iou_best',
                    'late/spearman_within', 'late/iou_key', 'late/iou_mean', 'late/iou_best')
Figures = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Results:
    """What a study has recorded.

    Attributes:
        figures: row -> seed -> video -> expression -> J&F in percent.
        in_sight: likewise, for expressions whose target is out of sight on some frames, over the
            other frames.
        kinds: video -> expression -> kind.
        seconds: row -> seed -> program -> its time.
    """

    figures: Mapping[str, Mapping[int, Figures]]
    in_sight: Mapping[str, Mapping[int, Figures]]
    kinds: Mapping[str, Mapping[str, str]]
    seconds: Mapping[str, Mapping[int, Mapping[str, float]]]

    @classmethod
    def collect(cls, records: Iterable[Mapping[str, Any]]) -> 'Results':
        """Put records together.

        Args:
            records: what :func:`ablation_study.runs.run_row` recorded.

        Raises:
            ValueError: two records are not about the same expressions.
        """
        figures: dict[str, dict[int, Figures]] = {}
        in_sight: dict[str, dict[int, Figures]] = {}
        seconds: dict[str, dict[int, Mapping[str, float]]] = {}
        kinds: dict[str, Mapping[str, str]] = {}
        for record in records:
            if any(kinds.setdefault(video, exps) != exps
                   for video, exps in record['kinds'].items()):
                raise ValueError(f'expected the same test videos in all results, got others for '
                                 f'row {record["row"]!r}, seed {record["seed"]}')
            figures.setdefault(record['row'], {})[record['seed']] = record['figures']
            in_sight.setdefault(record['row'], {})[record['seed']] = record['in_sight']
            seconds.setdefault(record['row'], {})[record['seed']] = record['seconds']
        return cls(figures, in_sight, kinds, seconds)

    def of_group(self, row: str, seed: int, group: str) -> dict[str, list[float]]:
        """Figures of a group of expressions.

        Returns:
            video -> figures, of the videos with such expressions; nothing for a row that was not
            tested on all of them.
        """
        figures = self.figures[row][seed]
        if group == IN_SIGHT:
            figures, group = self.in_sight[row][seed], LATE
        wanted = {video: [exp for exp, kind in exps.items() if in_group(video, kind, group)]
                  for video, exps in self.kinds.items()}
        wanted = {video: exps for video, exps in wanted.items() if exps}
        if not wanted.keys() <= figures.keys():
            return {}
        return {video: [figures[video][exp] for exp in exps] for video, exps in wanted.items()}

    def means(self, row: str, group: str) -> list[float]:
        """Mean over the expressions of a group, for each seed; empty where there are none."""
        means = []
        for seed in sorted(self.figures.get(row, {})):
            values = sum(self.of_group(row, seed, group).values(), [])
            if values:
                means.append(statistics.fmean(values))
        return means

    def compare(self, first: str, second: str, group: str) -> Difference | None:
        """Compare two rows on the seeds that both have; None where there are none."""
        seeds = sorted(set(self.figures.get(first, {})) & set(self.figures.get(second, {})))
        pair = [[self.of_group(row, seed, group) for seed in seeds] for row in (first, second)]
        if not seeds or not pair[0][0] or not pair[1][0]:
            return None
        return paired_bootstrap(*pair)


def in_group(video: str, kind: str, group: str) -> bool:
    """Whether an expression belongs to a group of :data:`GROUPS`.

    Args:
        video: id of its video, which names the variant.
        kind: its kind.
        group: the group; all but ``'no-target'`` leave out expressions without a target.
    """
    if group == 'no-target' or kind == 'no-target':
        return group == kind
    if group == ALL:
        return True
    if group == DEFAULT:
        return video.startswith('valid_u_')
    crowd = '-crowd_' in video
    return crowd if group == CROWD else kind == group and not crowd


def figure_table(results: Results, rows: Sequence[Row] = ROWS) -> str:
    """J&F of each row: mean over seeds, and the deviation (n - 1) where there are several."""
    head = '| row | table | ' + ' | '.join(GROUPS) + ' | seeds |'
    lines = [head, '|---|---|' + '---:|' * (len(GROUPS) + 1)]
    for row in rows:
        if row.kind == 'not run' or row.name not in results.figures:
            why = row.note if row.kind == 'not run' else ''
            cells = ['not run' + (f': {why}' if why else ''), *[''] * (len(GROUPS) - 1)]
            number = 0
        else:
            cells = [_cell(results.means(row.name, group)) for group in GROUPS]
            number = len(results.figures[row.name])
        lines.append(f'| {row.title} | {row.table} | ' + ' | '.join(cells) + f' | {number} |')
    counts = [sum(in_group(video, kind, LATE if group == IN_SIGHT else group)
                  for video, exps in results.kinds.items() for kind in exps.values())
              for group in GROUPS]
    lines.append('| expressions | | ' + ' | '.join(map(str, counts)) + ' | |')
    return '\n'.join(lines)


def _cell(means: Sequence[float]) -> str:
    if not means:
        return '-'
    mean = f'{statistics.fmean(means):.1f}'
    return f'{mean} ± {statistics.stdev(means):.1f}' if len(means) > 1 else mean


def comparison_table(results: Results, claims: Sequence[Comparison] = COMPARISONS) -> str:
    """Differences in points of J&F with their intervals, and what they show."""
    lines = ['| claim | expressions | difference | 95 % interval | seeds, videos, expressions | |',
             '|---|---|---:|---:|---:|---|']
    titles = {row.name: row.title for row in ROWS}
    for claim in claims:
        found = results.compare(claim.better, claim.worse, claim.group)
        text = f'| {titles[claim.better]} > {titles[claim.worse]} | {claim.group} '
        if found is None:
            lines.append(text + '| | | | not run |')
        else:
            lines.append(text + f'| {found.mean:+.1f} | {found.low:+.1f} .. {found.high:+.1f} '
                         f'| {found.seeds}, {found.videos}, {found.expressions} '
                         f'| {found.verdict} |')
    return '\n'.join(lines)


def selector_table(figures: Mapping[int, Mapping[str, Mapping[str, float]]]) -> str:
    """How well selectors foresee the IoU of frames.

    Args:
        figures: seed -> selector -> figure -> value, as ``KeyFrameMetric`` has them.
    """
    lines = ['| selector | seed | ' + ' | '.join(SELECTOR_FIGURES) + ' |',
             '|---|---:|' + '---:|' * len(SELECTOR_FIGURES)]
    for seed in sorted(figures):
        for selector, values in sorted(figures[seed].items()):
            cells = [f'{values[name]:.2f}' if name in values else '-' for name in SELECTOR_FIGURES]
            lines.append(f'| {selector} | {seed} | ' + ' | '.join(cells) + ' |')
    return '\n'.join(lines)


def time_line(results: Results) -> str:
    """Sum of the times of all programs."""
    total, programs = 0.0, set()
    for row, by_seed in results.seconds.items():
        for seed, seconds in by_seed.items():
            total += sum(seconds.values())
            programs.update((row, seed, name) for name in seconds)
    return f'{len(programs)} programs of {total / 60:.0f} minutes together'
