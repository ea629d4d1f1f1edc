"""What is known of the videos that a test or a list has finished, one file each."""

import hashlib
import json
import logging
import shutil
import zlib
from os import PathLike
from pathlib import Path

from mmengine.logging import print_log

from glus_mm.utils.checkpoint_files import atomic_file


class FinishedVideos:
    """A folder with one JSON file for each finished video.

    A file appears whole or not at all, so that what a killed process leaves is either a finished
    video or nothing. Several processes may write at once, each its own videos.

    Args:
        folder: where the files are; made with the first one.
    """

    def __init__(self, folder: str | PathLike) -> None:
        self.folder = Path(folder)

    def add(self, dataset: str, video_id: str, results: list | dict) -> Path:
        """Record a finished video.

        Args:
            dataset: name of its data set.
            video_id: the video.
            results: what is to be known of it, as JSON.

        Raises:
            OSError: it cannot be written.
            ValueError: a number is not finite.
        """
        record = dict(dataset=dataset, video_id=video_id, results=results)
        record['checksum'] = _checksum(record)
        text = json.dumps(record, allow_nan=False, separators=(',', ':'))
        path = self.folder / _file_name(dataset, video_id)
        self.folder.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as part:
            part.write_text(text + '\n', encoding='utf-8')
        return path

    def read(self) -> dict[tuple[str, str], list | dict]:
        """Read all records.

        Returns:
            ``results`` by data set and video. A file that is damaged is left out with a warning.
        """
        records = {}
        for path in sorted(self.folder.glob('*.json')):
            try:
                record = json.loads(path.read_text(encoding='utf-8'))
                _verify(record)
                records[record['dataset'], record['video_id']] = record['results']
            except (AttributeError, ValueError, KeyError, TypeError, RecursionError) as error:
                print_log(f'the record of a finished video is damaged, the video is tested again: '
                          f'{path} ({error})', 'current', logging.WARNING)
        return records

    def clear(self) -> None:
        """Forget all videos."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _checksum(record: dict) -> int:
    """Of a record as JSON, which comes back from a file as it was."""
    return zlib.crc32(json.dumps(record).encode())


def _verify(record: dict) -> None:
    if record.pop('checksum') != _checksum(record):
        raise ValueError('its checksum is another one')


def _file_name(dataset: str, video_id: str) -> str:
    """A name that any file system takes; the digest tells apart what looks alike in it."""
    readable = ''.join(c if c.isascii() and c.isalnum() else '-' for c in video_id)[:60]
    digest = hashlib.sha256(f'{dataset}\0{video_id}'.encode()).hexdigest()[:12]
    return f'{readable}_{digest}.json'
