"""Write a folder whose files appear whole or not at all."""

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from glus_mm.utils.paths import ensure_writable_dir

_STAGING = '.unfinished'


def check_output_folder(folder: Path, own: Sequence[str], inputs: Sequence[Path],
                        force: bool) -> None:
    """Refuse a folder whose files would be lost.

    Args:
        folder: where to write.
        own: names or patterns of the files that are written there.
        inputs: folders that are read; none of them may be written to.
        force: replace those of ``own`` that are there. Other files stay in any case.

    Raises:
        FileExistsError: the folder has files, and ``force`` is not given.
        NotADirectoryError: it is a file.
        ValueError: it is one of the inputs.
    """
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f'expected an output folder, got a file: {folder}')
    for path in inputs:
        if path.exists() and folder.exists() and path.samefile(folder):
            raise ValueError(f'expected an output folder that is not an input, got {folder}')
    held = sorted(p.name for p in folder.iterdir() if p.name != _STAGING) if folder.exists() else []
    if held and not force:
        raise FileExistsError(f'expected a new or empty output folder, but {folder} holds '
                              f'{held[:6]}; --force replaces {", ".join(own)} in it')


@contextmanager
def output_folder(folder: Path, own: Sequence[str], last: str) -> Iterator[Path]:
    """Stage files and move them to their place when all are there.

    Args:
        folder: where they go.
        own: names or patterns of files; those of an earlier run do not stay.
        last: the file that is moved last: where it is, the others are.

    Yields:
        A folder on the same file system to write into. If the work fails, nothing stays, neither
        it nor a folder that was created.
    """
    created = [p for p in (folder, *folder.parents) if not p.exists()]
    staging = folder / _STAGING
    try:
        ensure_writable_dir(folder)
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir()
        yield staging
        for name in [last, *own]:
            for old in folder.glob(name):
                _remove(old)
        for file in staging.rglob('*'):
            if file.is_file():
                # safetensors makes files that only their owner can read.
                shutil.copymode(staging / last, file)
        for file in sorted(staging.iterdir(), key=lambda file: file.name == last):
            os.replace(file, folder / file.name)
        staging.rmdir()
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        for path in created:
            if path.is_dir() and not any(path.iterdir()):
                path.rmdir()
        raise


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def check_space(staging: Path, folder: Path, needed: int) -> None:
    """Raise ``OSError`` if less than ``needed`` bytes are free where ``folder`` will be.

    Args:
        staging: where the files are written first.
        folder: where they go.
        needed: bytes.
    """
    free = shutil.disk_usage(staging).free
    if free < needed:
        raise OSError(f'expected {needed / 1e9:.2f} GB free for the output folder {folder}, got '
                      f'{free / 1e9:.2f} GB')
