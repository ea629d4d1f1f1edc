"""Checkpoint files: written whole or not at all, told from torn ones, found and read again."""

import errno
import hashlib
import json
import logging
import os
import pickle
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from mmengine.logging import print_log

# Beside the checkpoints; MMEngine's name for the file that holds the path of the latest one.
NOTE = 'last_checkpoint'
_PART = '.part'
_THREADS = 8
_CHUNK = 1 << 22  # bytes
_LFS = b'version https://git-lfs'
_ZIP = b'PK\x03\x04'
# 'iter_500.pth' or 'epoch_3.pth'; the best ones lack what a run needs to go on.
_NUMBERED = re.compile(r'(?!best_).*_(\d+)\.pth')


@contextmanager
def atomic_file(path: str | PathLike) -> Iterator[Path]:
    """Let a file appear whole or not at all, whatever happens meanwhile.

    Args:
        path: the file, replaced if it exists.

    Yields:
        A temporary file of the same folder, to be written in the block. If that ends well, it is
        brought to the disk and takes the place of ``path``; else it is removed. A process that is
        killed leaves it behind, see :func:`remove_parts`.
    """
    path = Path(path)
    part = path.with_name(f'.{path.name}{_PART}')
    try:
        yield part
        _to_disk(part)
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    _to_disk(path.parent)


def remove_parts(folder: str | PathLike) -> None:
    """Remove what interrupted :func:`atomic_file` blocks left of checkpoints in a folder."""
    for part in Path(folder).glob(f'.*.pth{_PART}'):
        part.unlink(missing_ok=True)


def why_torn(path: str | PathLike) -> str | None:
    """Find out whether a checkpoint is damaged; all of it is read, at the speed of the disk.

    Args:
        path: a file of ``torch.save``, whose parts have checksums; or a folder of such files, as
            DeepSpeed writes them.

    Returns:
        What is wrong with it; None for a whole one.
    """
    path = Path(path)
    if path.is_dir():
        reasons = {part.name: why_torn(part) for part in sorted(path.rglob('*.pt'))}
        if not reasons:
            return 'a folder without parts of a checkpoint'
        return next((f'{name}: {reason}' for name, reason in reasons.items() if reason), None)
    try:
        if path.stat().st_size == 0:
            return 'it is empty'
        damaged = _damaged_part(path)
    except FileNotFoundError:
        return 'there is no such file'
    except zipfile.BadZipFile:
        return 'its end is missing, or it is no checkpoint'
    # What a damaged list of contents leads to, and what a failing disk reports.
    except (EOFError, struct.error, NotImplementedError, ValueError, OSError) as error:
        return f'it cannot be read: {error}'
    return None if damaged is None else f'its part {damaged} is damaged'


def check_whole(path: str | PathLike) -> None:
    """Raise if a checkpoint is damaged.

    A file that has not changed is read once in a process, and of several processes of a machine by
    the first only.

    torch does not look at the checksums that it writes: weights with bits that have flipped, on a
    disk or on the way over a network, would be used as they are.

    Args:
        path: a file of ``torch.save``. Those of torch before 1.6 have no checksums.

    Raises:
        ValueError: it is damaged; the message names the part.
    """
    path = Path(path)
    if os.environ.get('LOCAL_RANK', '0') != '0' or not zipfile.is_zipfile(path):
        return
    stat = path.stat()
    reason = _why_torn_once(path.absolute(), stat.st_size, stat.st_mtime_ns, stat.st_ino)
    if reason is not None:
        raise ValueError(f'expected a whole checkpoint, got a damaged one ({reason}): {path}; copy '
                         'or download it again')


@lru_cache(maxsize=64)
def _why_torn_once(path: Path, *_state: int) -> str | None:
    return why_torn(path)


def _damaged_part(path: Path) -> str | None:
    """The first part of a zip archive with another checksum than noted.

    Python's ``ZipFile.testzip`` is one thread; here several read, without Python's lock.
    """
    with zipfile.ZipFile(path) as archive:

        def is_damaged(entry: zipfile.ZipInfo) -> bool:
            if entry.compress_type != zipfile.ZIP_STORED:  # not what torch writes
                with archive.open(entry) as part:
                    while part.read(_CHUNK):  # raises BadZipFile at its end
                        pass
                return False
            checksum, left = 0, entry.file_size
            with open(path, 'rb') as file:
                file.seek(entry.header_offset)
                header = file.read(30)
                if header[:4] != b'PK\3\4':
                    return True
                file.seek(sum(struct.unpack('<HH', header[26:30])), os.SEEK_CUR)
                while left:
                    chunk = file.read(min(_CHUNK, left))
                    if not chunk:
                        return True
                    checksum, left = zlib.crc32(chunk, checksum), left - len(chunk)
            return checksum != entry.CRC

        entries = archive.infolist()
        with ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1)) as threads:
            found = [entry.filename for entry, damaged in zip(
                entries, threads.map(is_damaged, entries)) if damaged]
    return found[0] if found else None


def newest_whole(work_dir: str | PathLike, before: int | None = None
                 ) -> tuple[Path | None, list[str]]:
    """Find the checkpoint that a run goes on from.

    That is the one noted in ``last_checkpoint``, or one that was written later, had the run no
    time left to note it. Where that is torn or gone, it is the latest whole one beside it.

    Args:
        work_dir: folder of the run. It may have been moved since.
        before: leave out those of this iteration and of later ones.

    Returns:
        The checkpoint, None if there is no whole one, and a line for each torn one before it.
    """
    torn = []
    for path in _latest_first(Path(work_dir)):
        number = _NUMBERED.fullmatch(path.name)
        if before is not None and number and int(number[1]) >= before:
            continue
        reason = why_torn(path)
        if reason is None:
            return path, torn
        torn.append(f'{path}: {reason}')
    return None, torn


def choose_resume(work_dir: str | PathLike) -> Path | None:
    """:func:`newest_whole` for a run that resumes: says what was skipped.

    Returns:
        The checkpoint; None if the run has to start afresh.

    Raises:
        FileNotFoundError: ``last_checkpoint`` names a file that is gone, and there is no other.
    """
    path, torn = newest_whole(work_dir)
    if path is None and torn and not any(Path(work_dir).glob('*.pth')):
        raise FileNotFoundError(
            f'expected the checkpoint that {Path(work_dir) / NOTE} names, got nothing there: '
            f'{_noted(Path(work_dir))}; to start afresh, remove the file {NOTE}')
    for line in torn:
        print_log(f'skipped the torn checkpoint {line}', 'current', logging.WARNING)
    if path is None and torn:
        print_log(f'no whole checkpoint in {work_dir}: the run starts afresh', 'current',
                  logging.WARNING)
    return path


def note_checkpoint(work_dir: str | PathLike, checkpoint: str | PathLike) -> None:
    """Write the path of the latest checkpoint into ``last_checkpoint``, whole or not at all."""
    with atomic_file(Path(work_dir) / NOTE) as part:
        part.write_text(str(checkpoint), encoding='utf-8')


def read_checkpoint(path: str | PathLike, mapped: bool | None = None) -> Any:
    """Read a file of ``torch.save`` that holds tensors and plain containers only, on the CPU.

    Args:
        path: the file.
        mapped: map it instead of reading it, which only files that torch >= 1.6 wrote allow; None
            maps those.

    Raises:
        OSError: the disk or its system says so; the message names the file.
        ValueError: it is damaged or cannot be read, or holds objects, which are never made.
    """
    check_start(path)
    check_whole(path)
    if mapped is None:
        mapped = zipfile.is_zipfile(path)
    try:
        return torch.load(path, map_location='cpu', weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        # torch's own message recommends to load the file by running its code.
        raise ValueError(
            f'expected a checkpoint with tensors and plain containers only, got one with other '
            f'objects, or no checkpoint: {path}; objects are never loaded, as that can run '
            f'code') from error
    except MemoryError:
        raise
    # A file that is no checkpoint leads torch's reader, and pickle's, to any error there is.
    except Exception as error:
        # EINVAL: a place in the file that cannot be, such as before its start.
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise OSError(error.errno, error.strerror, str(path)) from error
        reason = str(error).splitlines()[0] if str(error) else 'it ends too early'
        if not isinstance(error, (RuntimeError, ValueError)):
            reason = f'{type(error).__name__}: {reason}'
        raise ValueError(f'expected a checkpoint, but {path} cannot be read as one (is it '
                         f'complete?): {reason}') from error


def check_start(path: str | PathLike) -> None:
    """Refuse what the first bytes of a file of weights tell, with a plainer message.

    Raises:
        ValueError: it is a pointer of git lfs, or a zip archive without its end.
    """
    with open(path, 'rb') as file:
        start = file.read(len(_LFS))
    if start == _LFS:
        raise ValueError(f'expected weights, got a pointer of git lfs, without the content that '
                         f'"git lfs pull" downloads: {path}')
    if start.startswith(_ZIP) and not zipfile.is_zipfile(path):
        raise ValueError(f'expected a complete file of torch.save, got one whose end is missing '
                         f'(an interrupted download?): {path}')


def _to_disk(path: Path) -> None:
    """Wait until a file, or the names in a folder, would survive a loss of power."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        # Some network file systems cannot do it for folders.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP) or not path.is_dir():
            raise
    finally:
        os.close(handle)


def _latest_first(work_dir: Path) -> list[Path]:
    """Checkpoints of a run in the order in which to try them."""
    noted = _noted(work_dir)
    folder = work_dir if noted is None or not noted.exists() else noted.parent
    numbers = {path: int(match[1]) for path in folder.glob('*.pth')
               if (match := _NUMBERED.fullmatch(path.name))}
    found = sorted(numbers, key=numbers.__getitem__, reverse=True)
    if noted is None:
        return found
    if noted not in numbers:
        return [noted, *found]
    # A later number is not enough: a run that was taken back to an earlier checkpoint leaves
    # those of its abandoned future behind. Folders count as written when they are noted.
    later = [path for path in found if numbers[path] > numbers[noted] and path.is_file()
             and path.stat().st_mtime_ns > noted.stat().st_mtime_ns]
    earlier = [path for path in found if numbers[path] < numbers[noted]]
    first = [*later, noted, *earlier]
    return [*first, *(path for path in found if path not in first)]


def _noted(work_dir: Path) -> Path | None:
    """What ``last_checkpoint`` names, where it is now."""
    note = work_dir / NOTE
    text = note.read_text(encoding='utf-8').strip() if note.is_file() else ''
    if not text:
        return None
    # The absolute path of then; the folder may have moved since.
    beside = work_dir / Path(text).name
    return beside if beside.exists() else Path(text)


def checkpoint_digest(path: str | PathLike | None) -> str | None:
    """Digest of the content of a checkpoint, without reading the tensors of a large one.

    Args:
        path: a file of ``torch.save``, whose list of contents has a checksum of every tensor;
            another file is read, for its SHA-256. A name that is no file counts as itself.

    Returns:
        Hexadecimal digits; None for None.
    """
    if path is None:
        return None
    if not Path(path).is_file():
        return hashlib.sha256(str(path).encode()).hexdigest()
    if not zipfile.is_zipfile(path):
        digest = hashlib.sha256()
        with open(path, 'rb') as file:
            while part := file.read(_CHUNK):
                digest.update(part)
        return digest.hexdigest()
    with zipfile.ZipFile(path) as archive:
        parts = [[entry.filename.partition('/')[2], entry.file_size, entry.CRC]
                 for entry in archive.infolist()]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
