"""What users may ask of a web demo, and its temporary files."""

import shutil
import tempfile
import threading
import time
from dataclasses import dataclass, fields
from pathlib import Path
from types import TracebackType

_NAME = 'glus_mm_web_'


class WebInputError(ValueError):
    """What a user did that cannot be done; the message is for their eyes and has no path."""


@dataclass(frozen=True)
class WebLimits:
    """Bounds of a web demo; all are positive and finite.

    Args:
        max_upload_mb: size of a file, in units of 2**20 bytes.
        max_seconds: length of a video.
        max_frames: frames of a video that are segmented, and a tenth of those that it may have.
        max_megapixels: height times width of a frame, in millions; larger ones are scaled down.
        max_texts: expressions of a run.
        max_tokens: of an expression, in the model's own tokens: what a long one costs.
        max_work_seconds: time that the model may work on a run.
        max_upload_seconds: time that an upload may take.
        max_idle_seconds: time that a connection may stay open without a request, or an upload
            without a byte.
        max_open_videos: videos that are kept open for clicks; the one that was longest not
            clicked is closed for a new one.
        max_waiting: runs that wait for their turn; further ones are refused.
        max_store_mb: all files of all users, in units of 2**20 bytes; the oldest go first.
        max_store_minutes: how long a file is kept.

    Raises:
        ValueError: a number is not positive or not finite.
    """

    max_upload_mb: float = 200
    max_seconds: float = 60
    max_frames: int = 600
    max_megapixels: float = 2.1
    max_texts: int = 8
    max_tokens: int = 150
    max_work_seconds: float = 300
    max_upload_seconds: float = 600
    max_idle_seconds: float = 20
    max_open_videos: int = 8
    max_waiting: int = 16
    max_store_mb: float = 2000
    max_store_minutes: float = 60

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not 0 < value < float('inf'):
                raise ValueError(f'expected a finite {field.name} above 0, got {value!r}')

    @property
    def max_upload_bytes(self) -> int:
        """Size of a file."""
        return int(self.max_upload_mb * 2**20)


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
        """Remove what is too old, then the oldest until there is room; nothing of a closed store.

        Args:
            reserve: bytes that are about to be written.
        """
        with self._lock:
            if self._closed.is_set():
                return
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
