"""A file backend of MMEngine whose files appear whole or not at all."""

from os import PathLike
from pathlib import Path

from mmengine.fileio import LocalBackend, register_backend

from glus_mm.utils.checkpoint_files import atomic_file

ATOMIC = 'glus_mm.atomic'


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
