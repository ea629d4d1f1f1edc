"""Packing masks for a server."""

import os
import tempfile
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from glus_mm.evaluation.submissions.formats import SUBMISSION_FORMATS

# The earliest time that a zip can hold: the same masks give the same bytes.
_TIME = (1980, 1, 1, 0, 0, 0)


def write_submission(folder: Path, format_name: str,
                     videos: Iterable[tuple[str, Sequence[str], Sequence[str]]],
                     path: Path | None = None) -> Path:
    """Pack masks that lie in a folder; the zip appears complete or not at all.

    Args:
        folder: ``<video>/<expression>/<frame>.png``, or ``<video>/<frame>.png``.
        format_name: one of ``SUBMISSION_FORMATS``.
        videos: id, expressions and frames of each video. Nothing else is packed, whatever the
            folder holds.
        path: the zip; ``<folder>/<format_name>.zip`` if None.

    Raises:
        FileNotFoundError: a mask is missing.
        OSError: the zip cannot be written.
    """
    path = folder / f'{format_name}.zip' if path is None else path
    layout = SUBMISSION_FORMATS[format_name]
    handle, part = tempfile.mkstemp(dir=path.parent, prefix=f'.{path.name}.')
    try:
        with os.fdopen(handle, 'wb') as file, zipfile.ZipFile(file, 'w') as archive:
            for video_id, exp_ids, frames in videos:
                for exp_id in exp_ids:
                    for frame in frames:
                        source = folder / video_id / exp_id / f'{frame}.png'
                        info = zipfile.ZipInfo(layout.name(video_id, exp_id, frame), _TIME)
                        info.compress_type = zipfile.ZIP_DEFLATED
                        info.external_attr = 0o644 << 16
                        archive.writestr(info, source.read_bytes())
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(part, 0o666 & ~mask)
        os.replace(part, path)
    finally:
        Path(part).unlink(missing_ok=True)
    return path
