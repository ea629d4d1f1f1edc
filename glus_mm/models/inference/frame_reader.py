"""Frames of a video, read one at a time from files, a video file, arrays or an iterator."""

import logging
import shutil
import tempfile
from abc import ABCMeta, abstractmethod
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from os import PathLike
from pathlib import Path

import cv2
import numpy as np
from mmengine.logging import print_log

from glus_mm.models.inference.frame_error import FrameError, MissingFrameError
from glus_mm.utils.image import check_frame, read_image

IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.webp')


class FrameReader(metaclass=ABCMeta):
    """Random access to the frames of one video without holding the video.

    Args:
        frame_names: (T) a name for each frame, used for the files that are written.
        source: what is read, for error messages.

    Attributes:
        breaks_off (str | None): why the video goes on after its last frame here, if it does.

    Raises:
        ValueError: the video has no frame.
    """

    breaks_off: str | None = None

    def __init__(self, frame_names: Sequence[str], source: str) -> None:
        if not frame_names:
            raise ValueError(f'expected a video with at least one frame, but {source} has none')
        self.frame_names = tuple(frame_names)
        self.source = source
        self._shape: tuple[int, int] | None = None

    def __len__(self) -> int:
        """Number of frames, T."""
        return len(self.frame_names)

    @property
    def shape(self) -> tuple[int, int]:
        """``(H, W)`` of all frames; the first frame is read if none was yet."""
        if self._shape is None:
            self.read(0)
        return self._shape

    def read(self, frame_idx: int) -> np.ndarray:
        """Decode one frame.

        Args:
            frame_idx: 0-based position.

        Returns:
            uint8 (H, W, 3) in RGB.

        Raises:
            IndexError: there is no such frame.
            FrameError: it cannot be decoded or has another size than the first one read; a
                :class:`MissingFrameError` if its file is gone. Both are ``ValueError``.
        """
        if not 0 <= frame_idx < len(self):
            raise IndexError(f'{self.source} has frames 0..{len(self) - 1}, not {frame_idx}')
        where = f'frame {frame_idx} ({self.frame_names[frame_idx]}) of {self.source}'
        try:
            frame = self._read(frame_idx)
        except FileNotFoundError as error:
            raise MissingFrameError(f'{where}: {error}', frame_idx) from error
        except ValueError as error:
            raise FrameError(f'{where}: {error}', frame_idx) from error
        if self._shape is None:
            self._shape = frame.shape[:2]
        elif frame.shape[:2] != self._shape:
            raise FrameError(f'{where}: expected (H, W) = {self._shape} as the frames before, got '
                             f'{frame.shape[:2]}', frame_idx)
        return frame

    @abstractmethod
    def _read(self, frame_idx: int) -> np.ndarray:
        """Decode the frame at a valid position."""

    def close(self) -> None:  # noqa: B027 - most readers hold nothing open
        """Give back files that are held open."""


class ImageFolderReader(FrameReader):
    """A video as image files.

    Args:
        paths: (T) the files in the order of time.
        source: what is read, for error messages; the folder of the first file by default.
    """

    def __init__(self, paths: Sequence[str | PathLike], source: str | None = None) -> None:
        self.paths = [Path(path) for path in paths]
        if source is None:
            source = str(self.paths[0].parent) if self.paths else 'an empty list of images'
        super().__init__([path.stem for path in self.paths], source)

    @classmethod
    def from_folder(cls, folder: str | PathLike) -> 'ImageFolderReader':
        """Read the images of a folder in the order of their names.

        Raises:
            ValueError: the folder has no images.
        """
        paths = sorted(p for p in Path(folder).iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
        if not paths:
            raise ValueError(f'expected a folder with images ({", ".join(IMAGE_SUFFIXES)}), '
                             f'but {folder} has none')
        return cls(paths, str(folder))

    def _read(self, frame_idx: int) -> np.ndarray:
        return read_image(self.paths[frame_idx])


class ArrayReader(FrameReader):
    """A video as a list of RGB arrays that the caller holds.

    Args:
        frames: (T) uint8 arrays (H, W, 3).
    """

    def __init__(self, frames: Sequence[np.ndarray]) -> None:
        self.frames = [check_frame(frame, f'frame {i}') for i, frame in enumerate(frames)]
        super().__init__([f'{i:05d}' for i in range(len(frames))], 'a list of arrays')

    def _read(self, frame_idx: int) -> np.ndarray:
        return self.frames[frame_idx]


class VideoFileReader(FrameReader):
    """A video file, decoded in order and kept in a small window.

    Frames are counted by decoding the file once without conversion: the container's own count is
    wrong for truncated files and for some encoders, and a wrong count would only be seen after
    the work. Going back further than the window seeks by decoding again from the start of the
    file, which is exact for every encoder; the frames before the one that was asked for are then
    kept too, so that reading backward seeks only once per window.

    A file that was cut off has the frames that can be decoded; ``breaks_off`` says so, and a
    warning is logged.

    Args:
        path: the file.
        cache_size: frames that are kept decoded.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no video that can be decoded, or ``cache_size`` is below 1.
    """

    def __init__(self, path: str | PathLike, cache_size: int = 8) -> None:
        self.path = str(path)
        if not Path(path).is_file():
            raise FileNotFoundError(f'expected a video file, but there is no file {path}')
        if cache_size < 1:
            raise ValueError(f'cache_size must be at least 1, got {cache_size}')
        self.cache_size = cache_size
        self._cache: OrderedDict[int, np.ndarray] = OrderedDict()
        self._capture: cv2.VideoCapture | None = None
        self._next = 0
        count, self.fps = self._count_frames()
        super().__init__([f'{i:05d}' for i in range(count)], self.path)

    def _count_frames(self) -> tuple[int, float]:
        capture = self._open()
        fps = capture.get(cv2.CAP_PROP_FPS)
        stated = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        count = 0
        while capture.grab():
            count += 1
        capture.release()
        if count == 0:
            raise ValueError(f'expected a video, but no frame of {self.path} can be decoded')
        if stated > 0 and count < stated - 1:
            self.breaks_off = (f'{self.path} breaks off: its header states {stated} frames, but '
                               f'frame {count} cannot be decoded')
            print_log(self.breaks_off, 'current', logging.WARNING)
        return count, fps if fps > 0 else 25.0

    def _open(self) -> cv2.VideoCapture:
        capture = cv2.VideoCapture(self.path)
        if not capture.isOpened():
            raise ValueError(f'expected a video, but {self.path} cannot be opened as one')
        return capture

    def _read(self, frame_idx: int) -> np.ndarray:
        if frame_idx in self._cache:
            return self._cache[frame_idx]
        keep_from = frame_idx
        if self._capture is None or frame_idx < self._next:
            self.close()
            self._capture = self._open()
            keep_from = frame_idx - self.cache_size + 1
        while self._next < keep_from:
            self._decode(self._capture.grab())
        while self._next <= frame_idx:
            position = self._next
            ok, frame = self._capture.read()
            self._decode(ok)
            self._cache[position] = cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
            if len(self._cache) > self.cache_size:
                self._cache.popitem(last=False)
        return self._cache[frame_idx]

    def _decode(self, ok: bool) -> None:
        if not ok:
            raise ValueError(f'expected {len(self)} frames, but frame {self._next} cannot be '
                             f'decoded')
        self._next += 1

    def close(self) -> None:
        """Close the file; a later read opens it again."""
        if self._capture is not None:
            self._capture.release()
        self._capture, self._next = None, 0

    def __getstate__(self) -> dict:
        return dict(self.__dict__, _capture=None, _next=0, _cache=OrderedDict())


class SpooledReader(ImageFolderReader):
    """An iterator of frames, written to a temporary store first.

    Context frames come from the whole video, so that an offline run needs its end before its
    first mask. The store is on disk (lossless PNG), bounded, and removed by :meth:`close`.

    Args:
        frames: yields uint8 arrays (H, W, 3) in RGB.
        max_bytes: bound of the store.
    """

    def __init__(self, frames: Iterator[np.ndarray], max_bytes: int = 8 << 30) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix='glus_mm_spool_'))
        try:
            super().__init__(self._spool(frames, max_bytes), 'an iterator of frames')
        except BaseException:
            self.close()
            raise

    def _spool(self, frames: Iterator[np.ndarray], max_bytes: int) -> list[Path]:
        paths, used = [], 0
        for i, frame in enumerate(frames):
            frame = check_frame(frame, f'frame {i} of the iterator')
            _, data = cv2.imencode('.png', cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
            used += data.nbytes
            if used > max_bytes:
                raise ValueError(f'expected frames that fit the temporary store of {max_bytes} '
                                 f'bytes, but the iterator exceeds it at frame {i}; pass a video '
                                 f'file or a folder instead')
            paths.append(self._folder / f'{i:05d}.png')
            data.tofile(paths[-1])
        return paths

    def close(self) -> None:
        """Remove the temporary store."""
        shutil.rmtree(self._folder, ignore_errors=True)


def open_reader(source: str | PathLike | Sequence[np.ndarray] | Iterable[np.ndarray] |
                FrameReader) -> FrameReader:
    """Make a reader of whatever holds a video.

    Args:
        source: the path of a video file or of a folder with images, a list of RGB uint8 arrays
            (H, W, 3), an iterator of them, or a reader, which is returned as it is.

    Returns:
        The reader. Close it after use.

    Raises:
        FileNotFoundError: the path does not exist.
        ValueError: the source has no frame that can be decoded.
        TypeError: the source is none of the above.
    """
    if isinstance(source, FrameReader):
        return source
    if isinstance(source, (str, PathLike)):
        path = Path(source)
        if path.is_dir():
            return ImageFolderReader.from_folder(path)
        if not path.exists():
            raise FileNotFoundError(f'expected a video file or a folder of images, but there is '
                                    f'nothing at {source}')
        return VideoFileReader(path)
    if isinstance(source, (list, tuple)):
        return ArrayReader(source)
    if isinstance(source, Iterable) and not isinstance(source, (np.ndarray, dict)):
        return SpooledReader(iter(source))
    raise TypeError('expected the path of a video or of a folder of images, a list of RGB arrays '
                    f'or an iterator of them, got {type(source).__name__}')
