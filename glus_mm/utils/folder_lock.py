"""One run at a time in a folder, also where several machines share it."""

import json
import os
import socket
import threading
import time
import uuid
from os import PathLike
from pathlib import Path

import psutil

BEAT = 10.0  # seconds between two heartbeats
STALE = 120.0  # seconds without one after which the holder counts as gone


class FolderInUseError(OSError):
    """Another process works in the folder."""


class FolderLock:
    """Hold a folder for one run, as a context manager.

    The lock is a file that names host, process and start. While it is held, its time is renewed
    every ``beat`` seconds. It is stale, and taken over, if its process is known to be gone, which
    can be told on the same machine, or if its time has stood still for ``stale`` seconds; the
    clocks of machines are not compared. A process that is killed leaves a stale one behind:
    nobody has to remove it by hand.

    Args:
        folder: an existing folder.
        name: name of the file; runs that do not disturb one another have different ones.
        beat: seconds.
        stale: seconds.

    Raises:
        FolderInUseError: on entering, somebody else holds it; the message says who.
    """

    def __init__(self, folder: str | PathLike, name: str = '.run.lock', beat: float = BEAT,
                 stale: float = STALE) -> None:
        self.path = Path(folder) / name
        self.beat = beat
        self.stale = stale
        process = psutil.Process()
        self.entry = dict(
            host=socket.gethostname(), process=process.pid, started=process.create_time(),
            place=_place(), token=uuid.uuid4().hex)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> 'FolderLock':
        while not self._create():
            self._wait_until_stale()
        self._thread = threading.Thread(target=self._keep, name='folder lock', daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join()
        if self._is_ours():
            self.path.unlink(missing_ok=True)

    def _create(self) -> bool:
        """Make the file whole, or not at all where there is one."""
        part = self.path.with_name(f'{self.path.name}.{self.entry["token"]}')
        part.write_text(json.dumps(self.entry), encoding='utf-8')
        try:
            os.link(part, self.path)
        except FileExistsError:
            return False
        except OSError:  # a file system without links
            try:
                with open(self.path, 'x', encoding='utf-8') as file:
                    json.dump(self.entry, file)
            except FileExistsError:
                return False
        finally:
            part.unlink()
        return True

    def _wait_until_stale(self) -> None:
        """Take a stale lock away, or raise as soon as it is known that its holder lives."""
        holder, beat = self._read()
        if holder is None:
            return
        if holder.get('place') == self.entry['place']:
            if _lives(holder):
                raise self._in_use(holder)
        else:
            end = time.monotonic() + self.stale
            while time.monotonic() < end and not self._looks_stale(beat):
                time.sleep(min(1.0, self.beat))
                other, now = self._read()
                if other is None:
                    return
                if now != beat or other != holder:
                    raise self._in_use(other)
        self._take_away(holder)

    def _take_away(self, holder: dict) -> None:
        """Remove a stale lock; where another process was faster, leave its lock in place."""
        aside = self.path.with_name(f'{self.path.name}.{self.entry["token"]}')
        try:
            os.rename(self.path, aside)
        except FileNotFoundError:
            return
        found = _parse(aside)
        if found != holder:
            os.rename(aside, self.path)
            raise self._in_use(found)
        aside.unlink()

    def _looks_stale(self, beat: int) -> bool:
        """Whether the last heartbeat is old by the clock of the file system."""
        probe = self.path.with_name(f'{self.path.name}.{self.entry["token"]}')
        probe.touch()
        now = probe.stat().st_mtime_ns
        probe.unlink()
        return now - beat > self.stale * 1e9

    def _read(self) -> tuple[dict | None, int]:
        """Content and time of the lock; None where there is none."""
        try:
            return _parse(self.path), self.path.stat().st_mtime_ns
        except FileNotFoundError:
            return None, 0

    def _is_ours(self) -> bool:
        return (self._read()[0] or {}).get('token') == self.entry['token']

    def _keep(self) -> None:
        while not self._stop.wait(self.beat):
            try:
                os.utime(self.path)
            except FileNotFoundError:  # removed by hand
                self._create()
            except OSError:  # a shared disk that is away for a while
                continue

    def _in_use(self, holder: dict | None) -> FolderInUseError:
        holder = holder or {}
        return FolderInUseError(
            f'expected a folder in which no other run works, got one that process '
            f'{holder.get("process")} on {holder.get("host")} uses: {self.path.parent}; wait for '
            f'it, stop it, or choose another --work-dir ({self.path.name} there is its lock)')


def _place() -> str:
    """Where process ids mean the same: a machine since its start, and a container of it."""
    parts = [socket.gethostname()]
    for path, read in (('/proc/sys/kernel/random/boot_id', lambda p: Path(p).read_text().strip()),
                       ('/proc/self/ns/pid', os.readlink)):
        try:
            parts.append(read(path))
        except OSError:  # not Linux
            parts.append('')
    return ' '.join(parts)


def _lives(holder: dict) -> bool:
    """Whether the process of a lock is there, and not another one with its number."""
    try:
        process = psutil.Process(int(holder['process']))
        return (abs(process.create_time() - float(holder['started'])) < 2
                and process.status() != psutil.STATUS_ZOMBIE)
    except (psutil.NoSuchProcess, KeyError, TypeError, ValueError):
        return False
    except psutil.AccessDenied:
        return True


def _parse(path: Path) -> dict:
    """Content of a lock; empty for one that is damaged, which counts as anybody's."""
    try:
        entry = json.loads(path.read_text(encoding='utf-8'))
    except ValueError:
        return {}
    return entry if isinstance(entry, dict) else {}
