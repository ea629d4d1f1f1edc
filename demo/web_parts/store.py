"""Temporary files of a server, bounded in size and age."""

import shutil
import tempfile
import threading
import time
from pathlib import Path
from types import TracebackType

_NAME = 'glus_mm_web_'


class TemporaryStore:
    """A folder whose oldest entries are removed when there are too many bytes.

    An entry is whatever lies directly in the folder, a file or a folder with all in it. Use it as
    a context manager: the folder is gone afterwards.

    Args:
        max_bytes: bound of all entries together.
        max_seconds: age at which an entry is removed, from its last change or :meth:`touch`.
    """

    def __init__(self, max_bytes: int, max_seconds: float) -> None:
        self.max_bytes = max_bytes
        self.max_seconds = max_seconds
        self.root = Path(tempfile.mkdtemp(prefix=_NAME)).resolve()
        self._lock = threading.Lock()
        self._closed = threading.Event()

    def new_folder(self) -> Path:
        """Make an empty entry."""
        return Path(tempfile.mkdtemp(prefix='run_', dir=self.root))

    def touch(self, path: str | Path) -> None:
        """Keep the entry that a path lies in as long as a new one.

        Args:
            path: anywhere; outside the store nothing happens.
        """
        path = Path(path).resolve()
        if self.root in path.parents:
            entry = self.root / path.relative_to(self.root).parts[0]
            if entry.exists():
                entry.touch()

    def trim(self, reserve: int = 0) -> None:
        """Remove what is too old, then the oldest until there is room.

        Args:
            reserve: bytes that are about to be written.
        """
        with self._lock:
            entries = sorted((_changed(entry), entry) for entry in self.root.iterdir())
            sizes = {entry: _bytes_of(entry) for _, entry in entries}
            total, now = sum(sizes.values()) + reserve, time.time()
            for changed, entry in entries:
                if total > self.max_bytes or now - changed > self.max_seconds:
                    _remove(entry)
                    total -= sizes[entry]

    def remove_parts(self) -> None:
        """Remove what uploads that were broken off have left: files that Gradio has not named."""
        with self._lock:
            for entry in self.root.glob('tmp*'):
                if entry.is_file():
                    _remove(entry)

    def sweep(self, interval: float = 60.0) -> None:
        """Trim every so many seconds, in a thread of its own, until :meth:`close`.

        Args:
            interval: seconds.
        """
        def work() -> None:
            while not self._closed.wait(interval):
                self.trim()

        threading.Thread(target=work, name='sweep', daemon=True).start()

    def close(self) -> None:
        """Remove the folder."""
        self._closed.set()
        with self._lock:
            shutil.rmtree(self.root, ignore_errors=True)

    def __enter__(self) -> 'TemporaryStore':
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()


def _changed(path: Path) -> float:
    """When an entry was changed; 0 where it has just gone."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _bytes_of(path: Path) -> int:
    """Size of a file, or of all files in a folder; those that have just gone count nothing."""
    total = 0
    for file in [path, *path.rglob('*')] if path.is_dir() else [path]:
        try:
            total += file.stat().st_size if file.is_file() else 0
        except FileNotFoundError:
            continue
    return total


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
