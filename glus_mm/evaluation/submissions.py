"""Masks for the servers of the field: packing them, and checking what was packed."""

import posixpath
import stat
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import cv2
import numpy as np

from glus_mm.utils.checkpoint_files import atomic_file
from glus_mm.utils.masks import decode_mask_png

__all__ = ['SUBMISSION_FORMATS', 'SubmissionFormat', 'SubmissionVideo', 'check_submission',
           'write_submission']
# The earliest time that a zip can hold: the same masks give the same bytes.
_TIME = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class SubmissionFormat:
    """A zip file of masks, ``<prefix><video>/<expression>/<frame>.png``, mode L, 0 and 255.

    Attributes:
        prefix: folder at the root of the zip, with a slash, or nothing.
        num_videos: number of videos that the server's split has.
        labels: the masks are label maps, ``<prefix><video>/<frame>.png``, mode P or L, and there
            are no expressions: their only id is ``''``.
    """

    prefix: str
    num_videos: int
    labels: bool = False

    def name(self, video_id: str, exp_id: str, frame: str) -> str:
        """Name of a mask in the zip.

        Args:
            video_id: the video.
            exp_id: the expression.
            frame: name of the frame.
        """
        folder = video_id if self.labels else f'{video_id}/{exp_id}'
        return f'{self.prefix}{folder}/{frame}.png'


SUBMISSION_FORMATS = {
    'mose-v2': SubmissionFormat('', 433, labels=True),
    'mevis-v2': SubmissionFormat('', 140),
    'mevis': SubmissionFormat('', 140),
    'ref-youtube-vos': SubmissionFormat('Annotations/', 202),
}
"""The formats, by name: the valid splits of MeViS, MeViSv2 (taken to be that of MeViS) and MOSEv2;
valid minus test of Ref-YouTube-VOS."""


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
    with atomic_file(path) as part, zipfile.ZipFile(part, 'w') as archive:
        for video_id, exp_ids, frames in videos:
            for exp_id in exp_ids:
                for frame in frames:
                    source = folder / video_id / exp_id / f'{frame}.png'
                    info = zipfile.ZipInfo(layout.name(video_id, exp_id, frame), _TIME)
                    info.compress_type = zipfile.ZIP_DEFLATED
                    info.external_attr = 0o644 << 16
                    archive.writestr(info, source.read_bytes())
    return path


# What a PNG of a mask cannot exceed, beside one byte per pixel and row.
_SLACK = 1 << 16


@dataclass(frozen=True)
class SubmissionVideo:
    """What a server expects of one video.

    Attributes:
        video_id: the video.
        exp_ids: its expressions.
        frame_names: its frames, without suffix.
        size: ``(H, W)``; None where it is not known, and all masks only must have the same.
    """

    video_id: str
    exp_ids: Sequence[str]
    frame_names: Sequence[str]
    size: tuple[int, int] | None


def check_submission(path: str | PathLike, format_name: str,
                     videos: Iterable[SubmissionVideo]) -> Iterator[str]:
    """Compare a zip with what a server expects, one mask at a time.

    Args:
        path: the zip.
        format_name: one of ``SUBMISSION_FORMATS``.
        videos: what is expected.

    Yields:
        What is wrong, one sentence each; and an empty text after each expression, for progress.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no zip.
    """
    layout = SUBMISSION_FORMATS[format_name]
    videos = list(videos)
    try:
        archive = zipfile.ZipFile(path)
    except FileNotFoundError:
        raise FileNotFoundError(f'{path}: expected a zip file, got nothing there') from None
    except (OSError, zipfile.BadZipFile, ValueError) as error:
        raise ValueError(f'{path}: expected a zip file, got: {error}') from error
    with archive:
        expected = {layout.name(video.video_id, exp_id, frame) for video in videos
                    for exp_id in video.exp_ids for frame in video.frame_names}
        found: dict[str, zipfile.ZipInfo] = {}
        yield from _check_names(archive, expected, found)
        for video in videos:
            yield from _check_video(archive, layout, video, found)


def _check_names(archive: zipfile.ZipFile, expected: set[str],
                 found: dict[str, zipfile.ZipInfo]) -> Iterator[str]:
    """Look at the names of all entries, and put those that can be read into ``found``."""
    folders = {''}
    for name in expected:
        while name := posixpath.dirname(name):
            if name in folders:
                break
            folders.add(name)
    for info in archive.infolist():
        name = info.orig_filename
        where = f'entry {name!r:.200}'
        parts = name.rstrip('/').split('/')
        if '..' in parts or name.startswith('/') or '\\' in name or '\0' in name or ':' in parts[0]:
            yield f'{where}: expected a relative path inside the zip, which leads nowhere else'
        elif stat.S_ISLNK(info.external_attr >> 16):
            yield f'{where}: expected a file, got a symbolic link'
        elif info.flag_bits & 1:
            yield f'{where}: expected no encryption'
        elif name.endswith('/'):
            if name.rstrip('/') not in folders:
                yield f'{where}: expected only folders of the split\'s expressions'
        elif name not in expected:
            yield f'{where}: expected only masks of the split\'s videos, expressions and frames'
        elif name in found:
            yield f'{where}: expected it once, got it twice'
        else:
            found[name] = info


def _check_video(archive: zipfile.ZipFile, layout: SubmissionFormat, video: SubmissionVideo,
                 found: dict[str, zipfile.ZipInfo]) -> Iterator[str]:
    """Look at all masks of a video."""
    size = video.size
    for exp_id in video.exp_ids:
        where = f'video {video.video_id!r}'
        if not layout.labels:
            where += f', expression {exp_id!r}'
        names = [layout.name(video.video_id, exp_id, frame) for frame in video.frame_names]
        missing = [name for name in names if name not in found]
        if missing:
            yield (f'{where}: expected {len(names)} masks, {len(missing)} are missing, such as '
                   f'{missing[0]!r}')
        for name, frame in zip(names, video.frame_names):
            if name not in found:
                continue
            try:
                mask = _read(archive, found[name], f'{where}, frame {frame!r}', size,
                             layout.labels)
            except ValueError as error:
                yield str(error)
            else:
                size = mask.shape
        yield ''


def _read(archive: zipfile.ZipFile, info: zipfile.ZipInfo, where: str,
          size: tuple[int, int] | None, labels: bool) -> np.ndarray:
    """Read a mask; ``ValueError`` if it is not as the server wants it."""
    path = f'entry {info.filename!r}'
    limit = _SLACK + (2 * size[0] * size[1] if size else 1 << 26)
    if info.file_size > limit:
        raise ValueError(f'{path}: expected a mask of at most {limit} bytes for {where}, got '
                         f'{info.file_size}')
    try:
        data = archive.read(info)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OSError,
            RuntimeError) as error:
        raise ValueError(f'{path}: expected a mask for {where}, but it cannot be unpacked: '
                         f'{error}') from error
    mask = decode_mask_png(data, path, where, ('P', 'L') if labels else ('L', ), size)
    if labels:
        return mask
    if cv2.countNonZero(mask) != cv2.countNonZero(cv2.compare(mask, 255, cv2.CMP_EQ)):
        values = np.unique(mask)
        wrong = next(value for value in values if value not in (0, 255))
        raise ValueError(f'{path}: expected the values 0 and 255 for {where}, got {wrong}')
    return mask
