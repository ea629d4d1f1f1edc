"""One run at a time in a folder, also where several machines share it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path

from filelock import SoftFileLease, Timeout

BEAT = 2.0  # seconds between two heartbeats
STALE = 120.0  # seconds without one after which the holder counts as gone


class FolderInUseError(OSError):
    """Another process works in the folder."""


@contextmanager
def lock_folder(folder: str | PathLike, name: str = '.run.lock', beat: float = BEAT,
                stale: float = STALE) -> Iterator[None]:
    """Hold a folder for one run, in the block.

    The lock is a lease of the package ``filelock``: a file that names process, host and start,
    whose time is renewed every ``beat`` seconds. It is stale, and taken over, if its process is
    known to be gone, which can be told on the same machine, or if its time has stood still for
    ``stale`` seconds of this process's clock; those of machines are not compared. A process that
    is killed leaves a stale one behind: nobody has to remove it by hand.

    Args:
        folder: an existing folder.
        name: name of the file; runs that do not disturb one another have different ones.
        beat: seconds.
        stale: seconds; the same for all that ask for the folder.

    Raises:
        FolderInUseError: on entering, somebody else holds it; the message says who.
    """
    path = Path(folder) / name
    lock = SoftFileLease(path, lease_duration=stale, heartbeat_interval=beat, thread_local=False)
    first = _time_of(path)
    try:
        # A holder that is gone is known by its number, or by a heart that stands still; one whose
        # heart beats, or who came meanwhile, lives.
        lock.acquire(stale + 2 * beat, poll_interval=beat / 10,
                     cancel_check=lambda: _time_of(path) not in (first, None))
    except Timeout:
        lines = path.read_text(encoding='utf-8').splitlines() if path.is_file() else []
        holder = dict(line.split('=', 1) for line in lines if '=' in line)
        raise FolderInUseError(
            f'expected a folder in which no other run works, got one that process '
            f'{holder.get("pid")} on {holder.get("host")} uses: {path.parent}; wait for it, stop '
            f'it, or choose another one ({name} there is its lock)') from None
    try:
        yield
    finally:
        lock.release()


def _time_of(path: Path) -> int | None:
    try:
        return os.stat(path).st_mtime_ns
    except FileNotFoundError:
        return None
