"""Figures of the probes of motion and words, side by side."""

from collections.abc import Callable, Mapping, Sequence

from glus_mm.evaluation.bootstrap import ClusterMean, cluster_mean
from glus_mm.evaluation.protocols.base_protocol import Figures, Track
from glus_mm.utils.frames import PROBES

__all__ = ['PLAIN', 'PROBES', 'difference_lines', 'probe_differences', 'probe_table']
PLAIN = 'video'
"""Name of the run on the videos as they are."""


def probe_table(figures: Mapping[str, Mapping[str, float]]) -> str:
    """Lay J&F of a test and of its probes out side by side.

    Args:
        figures: of each run, as the metric returns them; that of the videos as they are first.

    Returns:
        A Markdown table, a row for each kind of expression and one for all; a column with the
        number of expressions for 'swap', which has not all of them.
    """
    first = next(iter(figures.values()))
    # Metrics may have a prefix: 'J&F', 'motion/J&F', 'prefix/motion/J&F'.
    keys = [key.removesuffix('J&F') for key in first if key.split('/')[-1] == 'J&F']
    keys = sorted(keys, key=lambda key: (key.count('/') == 0, key))
    columns = list(figures)
    lines = ['| J&F in % | n | ' + ' | '.join(columns) + (' | n of swap |' if 'swap' in columns
                                                          else ' |'),
             '|---|' + '---:|' * (1 + len(columns) + ('swap' in columns))]
    for key in keys:
        cells = [str(first.get(f'{key}expressions', '-'))]
        cells += [f'{run[f"{key}J&F"]:.2f}' if f'{key}J&F' in run else '-'
                  for run in figures.values()]
        if 'swap' in columns:
            cells.append(str(figures['swap'].get(f'{key}expressions', 0)))
        lines.append(f'| {key.rstrip("/") or "all with a target"} | ' + ' | '.join(cells) + ' |')
    return '\n'.join(lines)


def probe_differences(runs: Mapping[str, Sequence[Track]],
                      figures: Callable[[Track], Figures]) -> dict[str, ClusterMean]:
    """What each probe costs, in pairs over the expressions with a target that it has.

    Args:
        runs: expressions of each run, the videos as they are under ``PLAIN``.
        figures: figures of an expression, with 'J&F'.

    Returns:
        By probe: J&F there - J&F of the videos as they are.
    """
    plain = {track.key: figures(track)['J&F'] for track in runs[PLAIN]}
    found = {}
    for probe, tracks in runs.items():
        values: dict[str, list[float]] = {}
        for track in tracks:
            if probe != PLAIN and track.has_target:
                values.setdefault(track.video_id, []).append(
                    figures(track)['J&F'] - plain[track.key])
        if values:
            found[probe] = cluster_mean(values)
    return found


def difference_lines(differences: Mapping[str, ClusterMean]) -> str:
    """Lay :func:`probe_differences` out for people, in percent."""
    lines = []
    for probe, found in differences.items():
        ends = 'too few videos for an interval' if found.low is None else (
            f'95 % interval {100 * found.low:+.2f} .. {100 * found.high:+.2f}')
        lines.append(f'{probe} - {PLAIN}: {100 * found.mean:+.2f} J&F ({ends}; {found.videos} '
                     f'videos, {found.expressions} expressions)')
    return '\n'.join(lines)
