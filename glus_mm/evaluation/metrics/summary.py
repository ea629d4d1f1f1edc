"""From figures per expression to figures of a data set, a table and a JSON document."""

import json
import os
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from glus_mm.evaluation.metrics.expression_result import ExpressionResult


def summarise(results: Sequence[ExpressionResult]) -> dict[str, float | int]:
    """Figures of a data set and of each kind of expression.

    J and F are plain means over the expressions that have a target, as in the official MeViS
    script; every expression counts the same, however many frames its video has. As MeViSv2 does,
    expressions without a target are scored apart: N-acc is the share of them for which nothing was
    predicted on any frame, T-acc the share of expressions with a target for which something was.

    Args:
        results: one entry per expression, sorted, so that sums do not depend on who computed what.

    Returns:
        All shares in percent: 'J', 'F', 'J&F', the same as '<kind>/J' and so on, 'N-acc' and
        'T-acc' where some expression has no target; counts: 'expressions' (with a target),
        'no_target_expressions', '<kind>/expressions'. A figure over no expression is left out.
    """
    targets = [result for result in results if result.has_target]
    figures = _means(targets)
    for kind in sorted({result.kind for result in targets if result.kind is not None}):
        part = _means([result for result in targets if result.kind == kind])
        figures.update({f'{kind}/{name}': value for name, value in part.items()})
    no_targets = [result for result in results if not result.has_target]
    if no_targets:
        figures['N-acc'] = _share(not result.predicted for result in no_targets)
        figures['no_target_expressions'] = len(no_targets)
        if targets:
            figures['T-acc'] = _share(result.predicted for result in targets)
    return figures


def format_table(figures: dict[str, float | int]) -> str:
    """Lay out what ``summarise`` returned as a table, one line per kind and one for all."""
    kinds = [key.removesuffix('/J') for key in figures if key.endswith('/J')]
    width = max(len(name) for name in ['all with a target', *kinds])
    lines = [f'{"":{width}}  {"n":>6}  {"J":>6}  {"F":>6}  {"J&F":>6}']
    for name, prefix in [*((kind, f'{kind}/') for kind in kinds), ('all with a target', '')]:
        if f'{prefix}J' in figures:
            values = '  '.join(f'{figures[prefix + key]:6.2f}' for key in ('J', 'F', 'J&F'))
            lines.append(f'{name:{width}}  {figures[prefix + "expressions"]:6d}  {values}')
    if 'N-acc' in figures:
        lines.append(f'N-acc {figures["N-acc"]:.2f} ({figures["no_target_expressions"]} '
                     'expressions without a target)')
    if 'T-acc' in figures:
        lines.append(f'T-acc {figures["T-acc"]:.2f}')
    return '\n'.join(lines)


def write_json(path: Path, results: Sequence[ExpressionResult],
               figures: dict[str, float | int]) -> None:
    """Write all figures; the file appears complete or not at all.

    Keys: 'dataset' (without kinds), 'per_kind', 'per_expression' and 'per_frame'. The latter two
    are keyed '<video>_<exp>', as in the official scripts, or '<dataset>/<video>/<exp>' where two
    expressions would share a key. Shares are in percent, but for 'per_frame', which holds the
    measures themselves (0..1).

    Args:
        path: the file to write.
        results: one entry per expression.
        figures: what ``summarise`` returned for them.

    Raises:
        OSError: the file cannot be written.
    """
    short = Counter(f'{result.video_id}_{result.exp_id}' for result in results)
    document = {'dataset': {}, 'per_kind': {}, 'per_expression': {}, 'per_frame': {}}
    for key, value in figures.items():
        kind, slash, name = key.rpartition('/')
        target = document['per_kind'].setdefault(kind, {}) if slash else document['dataset']
        target[name] = value
    for result in results:
        key = f'{result.video_id}_{result.exp_id}'
        key = key if short[key] == 1 else '/'.join(result.key)
        document['per_expression'][key] = dict(
            _figures(result.mean_region, result.mean_boundary), kind=result.kind,
            has_target=result.has_target, predicted=result.predicted,
            frames_without_seg=result.frames_without_seg)
        document['per_frame'][key] = {'J': result.region, 'F': result.boundary}
    text = json.dumps(document, indent=1, allow_nan=False)
    with tempfile.NamedTemporaryFile('w', dir=path.parent, prefix=f'.{path.name}.', delete=False,
                                     encoding='utf-8') as file:
        file.write(text + '\n')
    # A temporary file is private to its user; give it the mode that open() would have given.
    mask = os.umask(0)
    os.umask(mask)
    os.chmod(file.name, 0o666 & ~mask)
    os.replace(file.name, path)


def _means(results: Sequence[ExpressionResult]) -> dict[str, float | int]:
    if not results:
        return {}
    region = np.mean([result.mean_region for result in results])
    boundary = np.mean([result.mean_boundary for result in results])
    return dict(_figures(float(region), float(boundary)), expressions=len(results))


def _figures(region: float, boundary: float) -> dict[str, float]:
    return {'J': 100 * region, 'F': 100 * boundary, 'J&F': 100 * (region + boundary) / 2}


def _share(flags) -> float:
    return 100 * float(np.mean(list(flags)))
