"""Draws what trainings logged, and prints a table of it.

Reads the files that MMEngine writes while it trains, ``<work dir>/<time>/vis_data/scalars.json``.
The parts of a run that was resumed in the same work dir are joined; where they overlap the later
one counts. Several runs are drawn over one another.

Examples:
    python tools/analysis_tools/analyze_logs.py work_dirs/run
    # validation over the iterations, with and without the contrastive loss (figure 4 of the paper)
    python tools/analysis_tools/analyze_logs.py work_dirs/with work_dirs/without --keys 'J&F' \\
        --legend contrastive baseline --out overfitting.png
    python tools/analysis_tools/analyze_logs.py work_dirs/run --keys 'loss*' '*/J&F' --smooth 0.8 \\
        --start 100
"""

import argparse
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, MaxNLocator

from glus_mm.utils.command_line import refuse
from glus_mm.utils.paths import ensure_writable_file

DEFAULT_KEYS = ('loss', 'loss_*', 'J&F', 'grad_norm', 'lr')
# What a line of the log says about itself.
_STEP, _TRAIN_ONLY = 'step', 'iter'
_RATES = ('lr', 'base_lr')
COLORS = ('#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9', '#444444')


@dataclass
class Series:
    """The values of one key of one run.

    Attributes:
        steps: iterations, ascending.
        values: one for each step; not all have to be finite.
        is_validation: whether they come from a validation.
    """

    steps: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    is_validation: bool = False

    def best(self, key: str) -> int | None:
        """Position of the lowest loss or the highest figure of a validation; None for others."""
        if 'loss' not in key and not self.is_validation:
            return None
        finite = [i for i, value in enumerate(self.values) if math.isfinite(value)]
        sign = -1 if 'loss' in key else 1
        return max(finite, key=lambda i: sign * self.values[i], default=None)

    def mean(self) -> float:
        """Mean of the finite values."""
        finite = [value for value in self.values if math.isfinite(value)]
        return math.fsum(finite) / len(finite) if finite else math.nan

    def smooth(self, weight: float) -> list[float]:
        """Exponential moving average, as in TensorBoard: without a bias towards the start."""
        mean = total = 0.0
        smoothed = []
        for value in self.values:
            if math.isfinite(value):
                mean = weight * mean + (1 - weight) * value
                total = weight * total + (1 - weight)
            smoothed.append(mean / total if total else math.nan)
        return smoothed


def find_logs(path: str) -> list[Path]:
    """Find the log files of a run, in the order of time.

    Raises:
        FileNotFoundError: there is nothing, or no log in it.
    """
    root = Path(path).expanduser()
    if root.is_file():
        return [root]
    if not root.is_dir():
        raise FileNotFoundError(f'expected a work dir or a .json file, got nothing there: {path}')
    for pattern in ('*/vis_data/scalars.json', 'vis_data/scalars.json', 'scalars.json'):
        found = sorted(root.glob(pattern))
        if found:
            return found
    raise FileNotFoundError(f'expected <time>/vis_data/scalars.json in the work dir, got none: '
                            f'{path}; only training with LocalVisBackend writes them')


def read_log(path: Path) -> list[tuple[int, bool, dict[str, float]]]:
    """Read a log file.

    Args:
        path: one JSON object per line. The last line may be cut off, as a killed run leaves it.

    Returns:
        Step, whether it is of a validation, and the values of each line.

    Raises:
        ValueError: a line is not a JSON object with a step; names it.
    """
    lines, entries = path.read_text(encoding='utf-8', errors='replace').splitlines(True), []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
        except json.JSONDecodeError as error:
            if number == len(lines) and not line.endswith('\n'):
                print(f'{path}: the last line is cut off, left out', file=sys.stderr)
                continue
            raise ValueError(f'{path}, line {number}: expected JSON, got {line.strip()[:60]!r} '
                             f'({error})') from error
        if not isinstance(entry, dict) or type(entry.get(_STEP)) is not int:
            raise ValueError(f"{path}, line {number}: expected an object with an integer '{_STEP}'"
                             f', as MMEngine logs while it trains, got {line.strip()[:60]!r}')
        values = {key.removeprefix('train/').removeprefix('val/'): value
                  for key, value in entry.items()
                  if isinstance(value, (int, float)) and key not in (_STEP, _TRAIN_ONLY)}
        entries.append((entry[_STEP], _TRAIN_ONLY not in entry, values))
    return entries


def read_run(path: str, start: int = 0) -> dict[str, Series]:
    """Read all that a run logged, by key.

    Args:
        path: a work dir, a folder of it, or a file.
        start: leave out what came before this iteration.

    Raises:
        FileNotFoundError: there is nothing, or no log in it.
        ValueError: a log is damaged, or nothing is left of it.
    """
    entries = []
    for file in find_logs(path):
        part = read_log(file)
        if part:  # what an interrupted run did after its last checkpoint was done again
            first = min(step for step, _, _ in part)
            entries = [entry for entry in entries if entry[0] < first] + part
    entries = [entry for entry in entries if entry[0] >= start]
    if not entries:
        raise ValueError(f'expected log lines of iteration {start} and later, got none: {path}')
    run: dict[str, Series] = {}
    for step, is_validation, values in entries:
        for key, value in values.items():
            # The time of an iteration means something else in a validation.
            name = f'val/{key}' if is_validation and key in ('time', 'data_time') else key
            series = run.setdefault(name, Series(is_validation=is_validation))
            series.steps.append(step)
            series.values.append(float(value))
    return run


def choose_keys(runs: dict[str, dict[str, Series]], asked: Sequence[str] | None) -> list[str]:
    """Choose what to show.

    Args:
        runs: the runs by name.
        asked: keys or patterns such as ``loss*``; None for the usual ones.

    Raises:
        ValueError: a key is in no run; names those that are.
    """
    known = list(dict.fromkeys(key for run in runs.values() for key in run))
    chosen = []
    for pattern in DEFAULT_KEYS if asked is None else asked:
        found = [key for key in known if key == pattern or fnmatchcase(key, pattern)]
        if asked is not None and not found:
            raise ValueError(f'expected a key of the logs, got {pattern!r}; they have: '
                             f'{", ".join(sorted(known))}')
        chosen += found
    if not chosen:
        raise ValueError(f'none of the usual keys {DEFAULT_KEYS} is in the logs; choose some with '
                         f'--keys; they have: {", ".join(sorted(known))}')
    return list(dict.fromkeys(chosen))


def name_runs(paths: Sequence[str], legend: Sequence[str] | None) -> list[str]:
    """Names for the runs: the legend's, else those of their work dirs, all different.

    Raises:
        ValueError: the legend does not have one name for each.
    """
    if legend is not None:
        if len(legend) != len(paths) or len(set(legend)) != len(legend):
            raise ValueError(f'expected {len(paths)} different names after --legend, one for each '
                             f'log, got {list(legend)}')
        return list(legend)
    names = []
    for path in paths:
        place = Path(path).expanduser().absolute()
        inner = place.parent.name == 'vis_data'
        names.append(place.parents[2].name if inner else place.stem if place.is_file()
                     else place.name)
    if len(set(names)) == len(names):
        return names
    return list(paths) if len(set(paths)) == len(paths) else [
        f'{path} ({i})' for i, path in enumerate(paths, 1)]


def table(runs: dict[str, dict[str, Series]], keys: Sequence[str]) -> str:
    """A line for each key and run: points, last, best and mean value."""
    rows = [('key', 'run', 'points', 'last', 'at', 'best', 'at', 'mean')]
    for key in keys:
        for name, run in runs.items():
            if key not in run:
                rows.append((key, name, '0', '-', '-', '-', '-', '-'))
                continue
            series = run[key]
            best = series.best(key)
            rows.append((
                key, name, str(len(series.values)), f'{series.values[-1]:.4g}',
                str(series.steps[-1]),
                *(('-', '-') if best is None else
                  (f'{series.values[best]:.4g}', str(series.steps[best]))),
                f'{series.mean():.4g}'))
    widths = [max(map(len, column)) for column in zip(*rows)]
    return '\n'.join(
        '  '.join(cell.ljust(width) if i < 2 else cell.rjust(width)
                  for i, (cell, width) in enumerate(zip(row, widths))) for row in rows)


def draw_panel(axes: Axes, key: str, runs: dict[str, dict[str, Series]], smooth: float) -> None:
    """Draw one key of all runs."""
    for number, (name, run) in enumerate(runs.items()):
        if key not in run:
            continue
        series, color = run[key], COLORS[number % len(COLORS)]
        if series.is_validation:
            axes.plot(series.steps, series.values, '-o', color=color, label=name, linewidth=1.6,
                      markersize=4)
            best = series.best(key)
            if best is not None and 'loss' not in key:
                place = series.steps[best], series.values[best]
                axes.plot(*place, '*', color=color, markersize=13, markeredgecolor='white')
                axes.annotate(  # of two runs one above, one below, and readable over a line
                    f'{place[1]:.2f}', place, xytext=(0, -16 if number % 2 else 8), color=color,
                    textcoords='offset points', ha='center', fontsize=8,
                    path_effects=[withStroke(linewidth=3, foreground='white')])
            continue
        values = series.values
        if smooth and key not in _RATES:
            axes.plot(series.steps, values, color=color, alpha=0.22, linewidth=0.9)
            values = series.smooth(smooth)
        axes.plot(series.steps, values, color=color, label=name, linewidth=1.5,
                  marker='.' if len(values) == 1 else None)
    axes.set_title(key, fontsize=10, loc='left', fontweight='bold', color='#333333')
    axes.grid(axis='y', color='#e4e4e4', linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[['top', 'right']].set_visible(False)
    axes.spines[['left', 'bottom']].set_color('#aaaaaa')
    axes.tick_params(colors='#555555', labelsize=8, labelbottom=True)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=[1, 2, 5, 10]))
    axes.margins(x=0.02, y=0.12 if any(
        key in run and run[key].is_validation for run in runs.values()) else 0.05)
    if key in _RATES:
        axes.yaxis.set_major_formatter(
            FuncFormatter(lambda value, _: f'{value:.1e}' if value else '0'))


def draw(runs: dict[str, dict[str, Series]], keys: Sequence[str], smooth: float = 0.0,
         title: str | None = None) -> Figure:
    """Draw all keys, one panel each.

    Args:
        runs: the runs by name.
        keys: what to draw.
        smooth: weight of the past in training curves, 0..1; what was logged stays visible.
        title: of the figure.
    """
    columns = len(keys) if len(keys) <= 3 else 2 if len(keys) == 4 else 3
    rows = -(-len(keys) // columns)
    width = 7.0 if columns == 1 else 4.0 * columns
    figure = Figure(figsize=(width, (4.0 if columns == 1 else 2.7) * rows + 0.5),
                    layout='constrained')
    panels = figure.subplots(rows, columns, sharex=True, squeeze=False).flatten().tolist()
    for axes, key in zip(panels, keys):
        draw_panel(axes, key, runs, smooth)
    for axes in panels[len(keys):]:
        axes.set_visible(False)
    for axes in panels[max(0, len(keys) - columns):len(keys)]:
        axes.set_xlabel('iteration', fontsize=9, color='#555555')
    if title is not None:
        figure.suptitle(title, fontsize=12, color='#222222')
    if len(runs) > 1:
        handles = {label: handle for axes in panels[:len(keys)]
                   for handle, label in zip(*axes.get_legend_handles_labels())}
        shown = [name for name in runs if name in handles]
        figure.legend([handles[name] for name in shown], shown, loc='outside lower center',
                      ncols=min(len(shown), 4), frameon=False, fontsize=9)
    return figure


def main(argv: Sequence[str] | None = None) -> None:
    """Read, print and draw."""
    parser = argparse.ArgumentParser(
        description='Plot and summarise training logs', epilog=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('logs', nargs='+', metavar='LOG',
                        help='work dirs, or .json files out of their vis_data folders')
    parser.add_argument('--keys', nargs='+', metavar='KEY',
                        help=f'what to show; patterns work (default: {" ".join(DEFAULT_KEYS)})')
    parser.add_argument('--smooth', type=float, default=0.0, metavar='W',
                        help='weight of the past in the moving average of training curves, '
                             '0 <= W < 1 (default: %(default)s)')
    parser.add_argument('--start', type=int, default=0, metavar='N',
                        help='leave out what came before iteration N (default: %(default)s)')
    parser.add_argument('--legend', nargs='+', metavar='NAME', help='names of the runs')
    parser.add_argument('--title', metavar='TEXT', help='of the figure')
    parser.add_argument('--out', default='logs.png', metavar='F.png',
                        help='where to draw; the ending decides the format (default: %(default)s)')
    args = parser.parse_args(argv)
    with refuse(parser):
        if not 0 <= args.smooth < 1:
            raise ValueError(f'--smooth: expected 0 <= W < 1, got {args.smooth}')
        names = name_runs(args.logs, args.legend)
        runs = {name: read_run(path, args.start) for name, path in zip(names, args.logs)}
        keys = choose_keys(runs, args.keys)
        figure = draw(runs, keys, args.smooth, args.title)
        ensure_writable_file(args.out)
        figure.savefig(args.out, dpi=140)
    print(table(runs, keys))
    print(f'drawn to {args.out}')


if __name__ == '__main__':
    main()
