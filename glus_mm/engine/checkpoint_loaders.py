"""How MMEngine reads checkpoints, without pickled objects, and writes files, whole or not at all.

MMEngine 0.10 unpickles whatever a URL gives, and onedl-mmengine's loader, where a safe load
refuses a file, loads it again with ``weights_only=False``: both run code that a checkpoint may
hold. Importing this module puts loaders in their place that never do, for the whole process.
``torchvision://`` and its like, which name published weights, are left to the engine.
"""

import os
from os import PathLike
from pathlib import Path
from urllib.parse import urlparse

from mmengine.dist import barrier
from mmengine.fileio import LocalBackend, get_file_backend, register_backend
from mmengine.runner import CheckpointLoader
from torch import hub
from torch.utils import serialization

from glus_mm.utils.checkpoint_files import atomic_file, read_checkpoint

ATOMIC = 'glus_mm.atomic'


@CheckpointLoader.register_scheme(prefixes='', force=True)
def load_from_local(filename: str, map_location: object = None) -> dict:
    """Read a file.

    Args:
        filename: the file.
        map_location: not used, here and below: weights are copied from the CPU into the model.

    Raises:
        FileNotFoundError: there is none.
        ValueError: see :func:`read_checkpoint`.
    """
    path = Path(filename).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f'expected a checkpoint file, got nothing there: {filename}')
    return read_checkpoint(path, bool(serialization.config.load.mmap))


@CheckpointLoader.register_scheme(prefixes=('http://', 'https://'), force=True)
def load_from_http(filename: str, map_location: object = None) -> dict:
    """Download a file into torch's cache, once on each machine, and read it."""
    path = Path(hub.get_dir(), 'checkpoints', Path(urlparse(filename).path).name)
    if os.environ.get('LOCAL_RANK', '0') == '0' and not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        hub.download_url_to_file(filename, str(path), progress=False)
    barrier()
    return read_checkpoint(path)


@CheckpointLoader.register_scheme(prefixes=[r'(\S+\:)?s3://', r'(\S+\:)?petrel://'], force=True)
def load_from_ceph(filename: str, map_location: object = None) -> dict:
    """Fetch a file from an object store, and read it."""
    store = get_file_backend(filename, backend_args=dict(backend='petrel'))
    with store.get_local_path(filename) as path:
        return read_checkpoint(path, False)


class AtomicLocalBackend(LocalBackend):
    """MMEngine's ``LocalBackend``, but for how files are written.

    A file is written beside its place, brought to the disk and then renamed, so that neither a
    killed process nor a full disk leaves half a file, or damages the one that was there. Chosen
    by ``backend_args=dict(backend='glus_mm.atomic')``.
    """

    def put(self, obj: bytes, filepath: str | PathLike) -> None:
        """Write bytes; the folder is made if need be.

        Raises:
            OSError: it cannot be written, for example as the disk is full; what was there stays.
        """
        Path(filepath).parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(filepath) as part:
            part.write_bytes(obj)

    def put_text(self, obj: str, filepath: str | PathLike, encoding: str = 'utf-8') -> None:
        """Write text; see :meth:`put`."""
        self.put(obj.encode(encoding), filepath)


register_backend(ATOMIC, AtomicLocalBackend, force=True)
