"""What a study keeps: a record for each row and seed, and one log of them all."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ablation_study.settings import write_atomically

LOG = 'results.jsonl'


def load_records(out: Path) -> list[dict[str, Any]]:
    """Read the records of a study from its runs or, where there are none, from its log.

    Args:
        out: folder of the study, or a folder with a log.

    Returns:
        The records, by row and seed; none where nothing has been run.

    Raises:
        ValueError: a file is not as it should be.
    """
    paths = sorted((out / 'results').glob('*.json'))
    try:
        if paths:
            return [json.loads(path.read_text(encoding='utf-8')) for path in paths]
        if not (out / LOG).is_file():
            return []
        first, *lines = (out / LOG).read_text(encoding='utf-8').splitlines()
        kinds = json.loads(first)['kinds']
        return [dict(record, kinds={video: kinds[video] for video in record['figures']})
                for record in map(json.loads, lines)]
    except (json.JSONDecodeError, KeyError) as error:
        raise ValueError(f'expected records of a study in {out}, got {error!r}') from error


def write_log(out: Path) -> None:
    """Write all records into one file; the kinds of expressions, the same in all, stand first."""
    records = load_records(out)
    if not records:
        return
    kinds = {video: exps for record in records for video, exps in record['kinds'].items()}
    lines = [dict(kinds=kinds)]
    lines += [{key: value for key, value in record.items() if key != 'kinds'}
              for record in records]
    write_atomically(out / LOG, ''.join(
        json.dumps(line, separators=(',', ':')) + '\n' for line in lines))


def training_log(folder: Path) -> list[dict[str, float]]:
    """Losses of a training from its scalars, the parts of a resumed one joined.

    Returns:
        ``step``, ``loss`` and its parts, as logged every tenth iteration.
    """
    by_step: dict[int, dict[str, float]] = {}
    for path in sorted(folder.glob('*/vis_data/scalars.json')):
        for line in path.read_text(encoding='utf-8').splitlines():
            values = json.loads(line)
            if 'loss' in values:
                by_step[values['step']] = {
                    key: round(value, 4) for key, value in values.items()
                    if key == 'step' or 'loss' in key}
    return [by_step[step] for step in sorted(by_step)]


def last_scalars(folder: Path) -> dict[str, float]:
    """The figures that a test logged last.

    Returns:
        Figure -> value; none where the test logged none.
    """
    lines: Sequence[str] = []
    for path in sorted(folder.glob('*/*.json')):
        lines = path.read_text(encoding='utf-8').splitlines() or lines
    return json.loads(lines[-1]) if lines else {}
