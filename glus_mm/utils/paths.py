"""Find out that a place cannot be written before the work, not after it."""

import os
import stat
import tempfile
from pathlib import Path


def ensure_writable_dir(path: str | os.PathLike) -> Path:
    """Create a folder if need be and make sure that files can be written into it.

    A file is really written (and removed): permission bits say nothing about a full or read-only
    file system, nor to a superuser.

    Args:
        path: the folder; ``~`` is expanded.

    Raises:
        NotADirectoryError: the path or one of its parents is a file.
        PermissionError: it cannot be created or written to.
        OSError: any other reason of the system, such as a full disk.
        ValueError: the path is empty, as a variable that is not set, and no current folder.
    """
    if not os.fspath(path).strip():
        raise ValueError('expected the path of an output folder, got an empty one')
    folder = Path(path).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix='.write_test_') as probe:
            probe.write(b'0')
    except (FileExistsError, NotADirectoryError) as error:
        raise NotADirectoryError(
            f'expected an output folder, got a file at or above it: {folder}') from error
    except OSError as error:
        raise type(error)(f'the output folder {folder} cannot be written: '
                          f'{error.strerror or error}') from error
    return folder


def ensure_writable_file(path: str | os.PathLike) -> Path:
    """Make sure that a file can be written; its folder is created if need be.

    An existing file keeps its content, and no empty file is left behind.

    Args:
        path: the file; ``~`` is expanded.

    Raises:
        IsADirectoryError: the path is a folder.
        NotADirectoryError: a parent is a file.
        PermissionError: the file or its folder cannot be written.
        OSError: any other reason of the system.
    """
    file = Path(path).expanduser()
    if file.is_dir():
        raise IsADirectoryError(f'expected an output file, got a folder: {file}')
    ensure_writable_dir(file.parent)
    if file.exists():
        try:
            with file.open('ab'):
                pass
        except OSError as error:
            raise type(error)(f'the output file {file} cannot be written: '
                              f'{error.strerror or error}') from error
    return file


def require_file(path: str | os.PathLike, what: str) -> Path:
    """The path of a file that has to be there, ``~`` expanded; ``what`` names it in the message.

    Raises:
        FileNotFoundError: it is not.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        got = 'a folder' if file.is_dir() else 'nothing there'
        raise FileNotFoundError(f'expected a {what} file, got {got}: {path}')
    return file


def read_regular(path: str | os.PathLike, max_bytes: int = 1 << 30) -> bytes:
    """Read a file that somebody else may have put there.

    Args:
        path: the file. A pipe, which could keep a reader waiting for ever, is refused.
        max_bytes: bound of its size.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no regular file, or too large.
    """
    # Without waiting, in case it is a pipe.
    with open(os.open(path, os.O_RDONLY | getattr(os, 'O_NONBLOCK', 0) | getattr(
            os, 'O_BINARY', 0)), 'rb') as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise ValueError(f'expected a regular file, got another kind: {path}')
        if found.st_size > max_bytes:
            raise ValueError(f'expected a file of at most {max_bytes} bytes, got {found.st_size}: '
                             f'{path}')
        return file.read()
