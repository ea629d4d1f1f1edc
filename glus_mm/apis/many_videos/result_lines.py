"""Result lines of many videos, from several processes, whatever ends them."""

import json
import logging
import os
import shutil
from collections.abc import Sequence
from os import PathLike
from pathlib import Path

from mmengine.logging import print_log

from glus_mm.utils.checkpoint_files import atomic_file

_NAME = 'results.jsonl'
_PARTS = '.results'


class ResultLines:
    """``results.jsonl`` in a folder: one JSON object for each video.

    While the work goes on every process appends to a file of its own in ``.results/``, a line at
    a time, each brought to the disk. A process that is killed leaves at most the beginning of a
    line, which is not read. At the end, the main process puts all together.

    Args:
        folder: where the results are.
    """

    def __init__(self, folder: str | PathLike) -> None:
        self.folder = Path(folder)

    @property
    def path(self) -> Path:
        """The file with the results of all processes."""
        return self.folder / _NAME

    def exist(self) -> bool:
        """Whether there are results of an earlier run."""
        return self.path.is_file() or any((self.folder / _PARTS).glob('*.jsonl'))

    def append(self, rank: int, record: dict) -> None:
        """Add a result.

        Args:
            rank: number of the process; each has a file of its own.
            record: a JSON object with ``id``.

        Raises:
            OSError: it cannot be written.
        """
        path = self.folder / _PARTS / f'rank_{rank}.jsonl'
        path.parent.mkdir(exist_ok=True)
        line = json.dumps(record, ensure_ascii=False).encode() + b'\n'
        with open(path, 'a+b') as file:
            # What was killed in the middle of a line has to keep it to itself.
            if file.tell():
                file.seek(-1, os.SEEK_END)
                line = line if file.read() == b'\n' else b'\n' + line
            file.write(line)
            file.flush()
            os.fsync(file.fileno())

    def read(self) -> dict[str, dict]:
        """Read the results so far.

        Returns:
            By id; of several the one that went well, else that of the latest ``time``.
        """
        found: dict[str, dict] = {}
        for path in [self.path, *sorted((self.folder / _PARTS).glob('*.jsonl'))]:
            if not path.is_file():
                continue
            for line in path.read_bytes().splitlines():
                record = _parse(line, path)
                if record is not None and _rank(record) >= _rank(found.get(record['id'], {})):
                    found[record['id']] = record
        return found

    def merge(self, ids: Sequence[str]) -> dict[str, dict]:
        """Write ``results.jsonl`` and remove the files of the processes, who have ended.

        Args:
            ids: the videos in the order that their lines get; others are left out.

        Returns:
            What was written, by id.
        """
        found = self.read()
        records = {name: found[name] for name in ids if name in found}
        with atomic_file(self.path) as part:
            part.write_text(''.join(json.dumps(record, ensure_ascii=False) + '\n'
                                    for record in records.values()), encoding='utf-8')
        shutil.rmtree(self.folder / _PARTS, ignore_errors=True)
        return records

    def clear(self) -> None:
        """Forget all results."""
        self.path.unlink(missing_ok=True)
        shutil.rmtree(self.folder / _PARTS, ignore_errors=True)


def _parse(line: bytes, path: Path) -> dict | None:
    try:
        record = json.loads(line)
    except ValueError:
        if line.strip():
            print_log(f'left out a broken line of {path}: {line[:60]!r}', 'current',
                      logging.WARNING)
        return None
    return record if isinstance(record, dict) and isinstance(record.get('id'), str) else None


def _rank(record: dict) -> tuple[bool, float]:
    return record.get('status') == 'done', record.get('time', 0.0)
