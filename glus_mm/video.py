"""Frames of a video, read one at a time: files, folders, arrays, iterators and live sources.

Video files and live sources are decoded by PyAV (FFmpeg). Nothing here needs torch.
"""

import bisect
import errno
import gc
import glob
import logging
import os
import platform
import re
import shutil
import struct
import tempfile
import time
from abc import ABCMeta, abstractmethod
from array import array
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from io import BytesIO
from os import PathLike
from pathlib import Path
from typing import NamedTuple

import av
import cv2
import numpy as np
from av.stream import Disposition
from av.video.reformatter import VideoReformatter
from natsort import natsort_keygen, natsorted
from PIL import Image

from glus_mm.utils.frames import clip_centres
from glus_mm.utils.paths import read_regular

IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.webp')
VIDEO_SUFFIXES = ('.mp4', '.m4v', '.mov', '.mkv', '.webm', '.avi', '.ts', '.mts', '.mpg', '.mpeg',
                  '.flv', '.wmv', '.ogv', '.3gp', '.gif')
# Pillow's own bound, for images.
MAX_PIXELS = 178_956_970
# What a file may be. A playlist, which a file with any name can be, would open others.
_CONTAINERS = ('mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,m4v,h264,hevc,'
               'vvc,obu,av1,ivf,flv,asf,ogg,gif,apng,nut,mxf,dv,yuv4mpegpipe,rm,swf,wtv')
# Their index names each key frame, and a packet of these codecs is a frame that is shown, so that
# packets tell the frames without decoding.
_INDEXED = ('mov', 'matroska')
_FRAME_PER_PACKET = ('h264', 'hevc', 'vvc', 'av1', 'vp9', 'mpeg4', 'mjpeg', 'prores', 'dnxhd',
                     'ffv1', 'png', 'qtrle')
_CACHE_BYTES = 64 << 20
# Kept of a video that is read forward only; more would have the decoder ask for new memory.
_FEW_FRAMES = 8
_THREADS = 4
_DEFAULT_FPS = 25.0
# FFmpeg's name for cameras, and what it calls the camera of a number.
_CAMERAS = {'Linux': ('v4l2', '/dev/video{}'), 'Darwin': ('avfoundation', '{}'),
            'Windows': ('dshow', 'video={}')}
# Decoders of a parent process, which must not be freed.
_FORKED: list = []
# Nor those that the parent was done with and had not collected yet: PyAV's containers and streams
# name one another, so that only the garbage collector frees them, in a forked process for ever.
# Before the fork, as others' callbacks in the child may run first.
if hasattr(os, 'register_at_fork'):
    os.register_at_fork(before=gc.freeze, after_in_parent=gc.unfreeze)


def read_image(path: str | PathLike, upright: bool = True) -> np.ndarray:
    """Decode an image file.

    Args:
        path: a JPEG or PNG file; the content decides, not the suffix.
        upright: turn the image as its EXIF orientation says, which is how every viewer shows it.
            False takes the pixels as they are stored: those of data sets, as the masks beside
            them were drawn on stored pixels.

    Returns:
        uint8 (H, W, 3) in RGB.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not an image that can be decoded, or it is no regular file, or its
            header states more than :data:`MAX_PIXELS`.
    """
    try:
        data = np.frombuffer(read_regular(path), dtype=np.uint8)
    except OSError as error:
        raise FileNotFoundError(
            f'expected an image file, but cannot read {path}: {error}') from error
    # The header alone: what it states would be allocated.
    try:
        width, height = Image.open(BytesIO(data)).size
    except Image.DecompressionBombError as error:
        raise ValueError(f'expected an image of a usual size, got {path}: {error}') from error
    # What cannot be identified may be of a kind that OpenCV alone knows.
    except (OSError, SyntaxError, ValueError, EOFError, struct.error):
        width = height = 0
    if width * height > MAX_PIXELS:
        raise ValueError(f'expected an image of at most {MAX_PIXELS} pixels, got {width} x '
                         f'{height}: {path}')
    flags = cv2.IMREAD_COLOR if upright else cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    image = cv2.imdecode(data, flags) if data.size else None
    if image is None:
        raise ValueError(
            f'expected an image file, but {path} ({data.size} bytes) cannot be decoded')
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def check_frame(frame: np.ndarray, where: str) -> np.ndarray:
    """Return ``frame`` if it is a uint8 RGB image (H, W, 3), else raise a ``ValueError``."""
    if not isinstance(frame, np.ndarray) or frame.dtype != np.uint8 or frame.ndim != 3 or \
            frame.shape[2] != 3 or 0 in frame.shape:
        got = f'{frame.dtype} {frame.shape}' if isinstance(frame, np.ndarray) else type(frame)
        raise ValueError(f'{where}: expected an RGB frame, uint8 (H, W, 3), got {got}')
    return frame


class FrameError(ValueError):
    """A frame cannot be decoded or has another size than the frames before it.

    Args:
        message: what is wrong with it.
        frame_idx: its 0-based position.

    Attributes:
        frame_idx (int): likewise.
    """

    def __init__(self, message: str, frame_idx: int) -> None:
        super().__init__(message)
        self.frame_idx = frame_idx


class MissingFrameError(FrameError, FileNotFoundError):
    """The file of a frame is gone."""


class FrameReader(metaclass=ABCMeta):
    """Random access to the frames of one video without holding the video.

    Args:
        frame_names: (T) a name for each frame, used for the files that are written.
        source: what is read, for error messages.

    Attributes:
        breaks_off (str | None): why the video goes on after its last frame here, if it does.
        fps (float | None): frames per second, on average; None where nothing says.
        time_base (Fraction | None): unit in seconds that :meth:`time` is a multiple of; None
            where frames have no times.

    Raises:
        ValueError: the video has no frame.
    """

    breaks_off: str | None = None
    fps: float | None = None
    time_base: Fraction | None = None

    def __init__(self, frame_names: Sequence[str], source: str) -> None:
        if not frame_names:
            raise ValueError(f'expected a video with at least one frame, but {source} has none')
        self.frame_names = tuple(frame_names)
        self.source = source
        self._shape: tuple[int, int] | None = None

    def __len__(self) -> int:
        return len(self.frame_names)

    def time(self, frame_idx: int) -> Fraction | None:
        """Seconds from the first frame to this one, exactly; None where frames have no times."""
        return None

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

    def context_frames(self, number: int) -> list[int]:
        """Positions of the frames that stand for the whole video, in the order they are shown.

        Args:
            number: how many; the centre of each of so many equal clips, see :func:`clip_centres`.
        """
        return clip_centres(len(self), number)

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
        upright: see :func:`read_image`.
    """

    def __init__(self, paths: Sequence[str | PathLike], source: str | None = None,
                 upright: bool = True) -> None:
        self.paths = [Path(path) for path in paths]
        self.upright = upright
        if source is None:
            source = str(self.paths[0].parent) if self.paths else 'an empty list of images'
        super().__init__([path.stem for path in self.paths], source)

    @classmethod
    def from_folder(cls, folder: str | PathLike) -> 'ImageFolderReader':
        """Read the images of a folder in the natural order of their names: 2 before 10.

        Raises:
            ValueError: the folder has no images, or two of them have the same place: their names
                differ in leading zeros or in the suffix only.
        """
        paths = natsorted((p for p in Path(folder).iterdir()
                           if p.suffix.lower() in IMAGE_SUFFIXES), key=lambda p: p.stem)
        if not paths:
            raise ValueError(f'expected a folder with images ({", ".join(IMAGE_SUFFIXES)}), '
                             f'but {folder} has none')
        place = natsort_keygen()
        for first, second in zip(paths, paths[1:]):
            if place(first.stem) == place(second.stem):
                raise ValueError(f'expected images whose names say their order, got {first.name} '
                                 f'and {second.name} in {folder}')
        return cls(paths, str(folder))

    def _read(self, frame_idx: int) -> np.ndarray:
        return read_image(self.paths[frame_idx], self.upright)


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


class ReorderedReader(FrameReader):
    """The frames of another reader in an order of one's own; nothing is copied or closed.

    Args:
        reader: the video.
        order: its positions; some may be left out or repeated.
        context_seed: seed of another order in which the context frames are shown, which is never
            that of time where there are two of them; None shows them in the order of time.
    """

    def __init__(self, reader: FrameReader, order: Sequence[int],
                 context_seed: int | None = None) -> None:
        super().__init__([reader.frame_names[t] for t in order], reader.source)
        self.reader = reader
        self.order = tuple(order)
        self.context_seed = context_seed

    def context_frames(self, number: int) -> list[int]:
        """See :meth:`FrameReader.context_frames`."""
        frames = super().context_frames(number)
        if self.context_seed is None or len(set(frames)) < 2:
            return frames
        rng, shown = np.random.default_rng(self.context_seed), frames
        while shown == frames:
            shown = rng.permutation(frames).tolist()
        return shown

    def _read(self, frame_idx: int) -> np.ndarray:
        return self.reader.read(self.order[frame_idx])


class VideoFileReader(FrameReader):
    """A video file, decoded by PyAV and kept in a small window.

    Packets are looked through once, without decoding them, for the time of each frame and for the
    key frames, so that positions are exact with any frame rate, also a variable one. Reading
    elsewhere seeks to the key frame before. Where packets do not tell (old containers, raw
    streams) the file is decoded once to count, and seeking decodes from its start. The frames
    before the one that was asked for are kept, so that reading backward costs hardly more than
    forward.

    Rotation that the file asks for is applied; alpha is left aside. A file that was cut off has
    the frames that are there; ``breaks_off`` says so, and a warning is logged.

    Args:
        path: the file, or the URL of one.
        cache_size: frames that are kept decoded; by default 8, and once frames are read backward
            as many as fit into 64 MiB.
        max_frames: bound of the work on a file that may have any number of frames.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no video that can be decoded, it has more than ``max_frames``, or
            ``cache_size`` is below 1.
    """

    def __init__(self, path: str | PathLike, cache_size: int | None = None,
                 max_frames: int | None = None) -> None:
        self.path = str(path)
        if not is_url(self.path):
            if not Path(path).is_file():
                kind = 'is no regular file' if Path(path).exists() else 'is not there'
                raise FileNotFoundError(f'expected a video file, but {path} {kind}')
            if Path(path).stat().st_size == 0:
                raise ValueError(f'expected a video, but {path} is empty')
        if cache_size is not None and cache_size < 1:
            raise ValueError(f'cache_size must be at least 1, got {cache_size}')
        self.cache_size, self._max_frames = cache_size, max_frames
        self._cache: OrderedDict[int, av.VideoFrame] = OrderedDict()
        self._goes_back, self._last = False, -1
        self._reformatter = VideoReformatter()
        self._container: av.container.InputContainer | None = None
        self._options = {} if is_url(self.path) else dict(format_whitelist=_CONTAINERS)
        self._scan()
        if not self._pts:
            raise ValueError(f'expected a video, but no frame of {self.path} can be decoded')
        if self.breaks_off:
            _warn(self.breaks_off)
        super().__init__([f'{i:05d}' for i in range(len(self._pts))], self.path)

    def time(self, frame_idx: int) -> Fraction:
        """See :meth:`FrameReader.time`."""
        return (self._pts[frame_idx] - self._pts[0]) * self.time_base

    def _scan(self) -> None:
        """Find the times of all frames and the key frames."""
        container, stream = _open_stream(self.path, options=self._options)
        packets, discarded, lost = [], 0, []
        with container:
            self.time_base = stream.time_base
            self.fps = _fps_of(stream)
            stated, seconds = stream.frames, _stated_seconds(container, stream)
            container_name = container.format.name.split(',')[0]
            codec = stream.codec_context.codec.canonical_name
            for packet in self._bounded(_packets(container, stream, lost=lost)):
                if packet.is_discard:  # an edit list cuts it off
                    discarded += 1
                else:
                    packets.append((packet.pts, packet.dts, packet.is_keyframe))
        if discarded and not packets and 'ignore_editlist' not in self._options:
            # Rounded to its unit, the list of a very short video shows nothing.
            self._options['ignore_editlist'] = '1'
            self._scan()
            return
        # Nothing before the first key frame can be decoded.
        first = next((i for i, (_, _, is_key) in enumerate(packets) if is_key), len(packets))
        discarded, packets = discarded + first, packets[first:]
        self._pts = [pts for pts, _, _ in packets]
        # (position, time to seek to) of the key frames; none where one cannot seek.
        self._keys: list[tuple[int, int]] = []
        # Whether a decoded frame is known by its time; else frames are counted.
        self._has_times = True
        is_indexed = container_name in _INDEXED and codec in _FRAME_PER_PACKET and packets \
            and None not in self._pts and len(set(self._pts)) == len(self._pts)
        if is_indexed:
            self._pts.sort()
        else:
            self._count_frames()
        # Headers of others than MP4 may be wrong by one.
        short_of = self._missing(len(self._pts) + discarded + (container_name != 'mov'), stated,
                                 seconds)
        if is_indexed and short_of is not None:
            self._cut(packets[-1][1])
        if lost and short_of is None:
            _warn(f'{self.path} is damaged: frames are missing in {len(lost)} place(s)')
        if short_of is not None:
            self.breaks_off = (f'{self.path} breaks off: its header states {short_of}, but frame '
                               f'{len(self._pts)} cannot be decoded')
        if is_indexed:
            self._keys = sorted((bisect.bisect_left(self._pts, pts), pts)
                                for pts, _, is_key in packets if is_key and pts <= self._pts[-1])

    def _count_frames(self) -> None:
        """Decode the file for the times of its frames."""
        container, stream = _open_stream(self.path, options=self._options)
        with container:
            self._pts = [frame.pts for frame in self._bounded(_frames(container, stream))]
        if None in self._pts or any(a >= b for a, b in zip(self._pts, self._pts[1:])):
            self._has_times = False
            self.time_base = 1 / Fraction(self.fps).limit_denominator(1_001_000)
            self._pts = list(range(len(self._pts)))

    def _bounded(self, items: Iterator) -> Iterator:
        for i, item in enumerate(items):
            if i == self._max_frames:
                raise ValueError(f'expected at most {self._max_frames} frames, got more')
            yield item

    def _missing(self, count: int, stated: int, seconds: float | None) -> str | None:
        """What the header states, in words, where that is more than there is."""
        if count < stated:
            return f'{stated} frames'
        if not stated and seconds and self._pts:
            last = float(self.time(len(self._pts) - 1)) + 1 / self.fps
            if seconds - last > max(0.5, 2 / self.fps):
                return f'{seconds:.2f} s'
        return None

    def _cut(self, dts: int | None) -> None:
        """Leave out frames after the first one that is missing.

        Packets come in the order of decoding, so that the file may break off between a frame and
        one that is shown before it. What is shown before the last packet was to be decoded is
        whole; after that a gap tells.
        """
        step = sorted(b - a for a, b in zip(self._pts, self._pts[1:]))[len(self._pts) // 2 - 1] \
            if len(self._pts) > 1 else 0
        for i in range(1, len(self._pts)):
            if (dts is None or self._pts[i] > dts) and \
                    2 * (self._pts[i] - self._pts[i - 1]) > 3 * step:
                del self._pts[i:]
                return

    def _read(self, frame_idx: int) -> np.ndarray:
        frame = self._cache.get(frame_idx)
        if frame is None:
            frame = self._decode(frame_idx)
        self._last = frame_idx
        return _to_rgb(frame, self._reformatter)

    def _decode(self, frame_idx: int) -> av.VideoFrame:
        """Decode up to a frame that is not kept."""
        if self._container is not None and self._owner != os.getpid():
            # A process that was forked has none of the decoder's threads; to free the decoder would
            # wait for them.
            _FORKED.append((self._container, self._stream, self._decoded, dict(self._cache)))
            self._container = None
            self._cache.clear()
        elif frame_idx == self._last - 1:  # not a jump, as from context frames to the first one
            self._goes_back = True
        key = bisect.bisect_right(self._keys, frame_idx, key=lambda entry: entry[0]) - 1
        if self._container is None or frame_idx < self._next or (
                key >= 0 and self._keys[key][0] > self._next):
            self._seek(key)
        frame = self._find(frame_idx)
        if frame is None and not self._from_start:
            # What a file says of its key frames need not be true, and a server may not seek.
            self._seek(0)
            frame = self._find(frame_idx)
        if frame is None:
            raise ValueError('it cannot be decoded')
        return frame

    def _seek(self, key: int) -> None:
        """Let the next frame be a key frame; for the first one the file is opened anew."""
        self._from_start = key <= 0
        if self._container is None or self._from_start:
            self._release()
            self._container, self._stream = _open_stream(self.path, options=self._options)
            self._owner = os.getpid()
        self._next = 0
        if not self._from_start:
            position, at = self._keys[key]
            try:
                self._container.seek(at, stream=self._stream)
                self._next = position
            except av.FFmpegError:
                self._from_start = True
        self._decoded = _frames(self._container, self._stream)

    def _find(self, frame_idx: int) -> av.VideoFrame | None:
        """Decode until a frame comes; the ones before are kept as far as there is room."""
        for frame in self._decoded:
            position = self._next
            if self._has_times:
                position = bisect.bisect_left(self._pts, frame.pts)
                if position == len(self._pts) or self._pts[position] != frame.pts:
                    continue
            self._next = position + 1
            self._keep(position, frame)
            if position >= frame_idx:
                return frame if position == frame_idx else None
        self._release()
        return None

    def _keep(self, position: int, frame: av.VideoFrame) -> None:
        size = sum(plane.buffer_size for plane in frame.planes)
        limit = self.cache_size or (
            max(1, _CACHE_BYTES // size) if self._goes_back else _FEW_FRAMES)
        self._cache[position] = frame
        while len(self._cache) > limit:
            self._cache.popitem(last=False)

    def close(self) -> None:
        """Close the file and forget its frames; a later read opens it again."""
        self._release()
        self._cache.clear()

    def _release(self) -> None:
        if self._container is not None:
            self._container.close()
        self._container = None

    def __getstate__(self) -> dict:
        state = dict(self.__dict__, _container=None, _cache=OrderedDict(),
                     _reformatter=None)
        for name in ('_stream', '_decoded'):
            state.pop(name, None)
        return state

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state, _reformatter=VideoReformatter())


class VideoHeader(NamedTuple):
    """What a video file states of itself, which need not be true.

    Attributes:
        width, height: of the stored frames, before they are turned.
        fps: frames per second.
        num_frames: number of frames, 0 where there is no statement.
    """

    width: int
    height: int
    fps: float
    num_frames: int


def read_header(path: str | PathLike) -> VideoHeader:
    """Read the header of a video file.

    Raises:
        ValueError: it is no video that can be decoded.
    """
    container, stream = _open_stream(str(path), options=dict(format_whitelist=_CONTAINERS))
    with container:
        fps = _fps_of(stream)
        frames = stream.frames
        if not frames and container.duration is not None:
            frames = round(container.duration / av.time_base * fps)
        return VideoHeader(stream.width, stream.height, fps, max(frames, 0))


class LiveSource:
    """Frames of a camera or of a stream from the network, as they come.

    Iterate over it for RGB arrays, uint8 (H, W, 3). It ends with its source, or when it is closed;
    where the source breaks off that is an ``OSError``.

    Args:
        source: number of a camera, such as ``'0'``, or a URL (RTSP, RTMP, UDP, HTTP).
        timeout: seconds to wait for a frame.

    Attributes:
        times (array): seconds from the first frame, one for each frame that came; those of their
            arrival for JPEGs from a web server, which state none.

    Raises:
        ValueError: it cannot be opened, or has no video that can be decoded.
    """

    def __init__(self, source: str, timeout: float = 30.0) -> None:
        self.source = source
        self.times = array('d')
        kind, name, options = None, source, {}
        if is_camera(source):
            kind, name = _CAMERAS.get(platform.system(), _CAMERAS['Linux'])
            name = name.format(source)
        elif source.startswith('rtsp'):
            options = dict(rtsp_transport='tcp')
        self._container, self._stream = _open_stream(name, format=kind, options=options,
                                                     timeout=timeout)
        # Late frames are of no use, and threads of their own would hold some back.
        self._stream.codec_context.thread_type = 'SLICE'
        self.fps = _fps_of(self._stream)

    def __iter__(self) -> Iterator[np.ndarray]:
        """Wait for frames and decode them."""
        first, reformatter = None, VideoReformatter()
        for frame in _frames(self._container, self._stream, live=True):
            if self._container.format.name == 'mpjpeg':
                at = time.monotonic()  # FFmpeg makes up 25 frames per second
            elif frame.pts is None:
                at = len(self.times) / self.fps
            else:
                at = float(frame.pts * self._stream.time_base)
            first = at if first is None else first
            self.times.append(at - first)
            yield _to_rgb(frame, reformatter)
        if self._container.format.name == 'rtsp':
            # FFmpeg reads the end of the connection as that of the stream.
            raise OSError(f'{self.source} broke off: the server ended it, and live RTSP has no '
                          'end of its own')

    @property
    def states_its_length(self) -> bool:
        """Whether it is a file that is sent, which has an end, and not a stream that goes on."""
        return self._container.duration is not None

    def close(self) -> None:
        """Give the source back."""
        self._container.close()


def is_camera(source: str) -> bool:
    """Whether a source is the number of a camera."""
    return source.isascii() and source.isdigit() and len(source) <= 2


def is_url(source: str) -> bool:
    """Whether a source is fetched from the network."""
    return '://' in source[:20]


def find_videos(sources: Sequence[str]) -> list[str]:
    """Find what a user names.

    Args:
        sources: paths of video files, images or folders of images, which are videos of their own;
            folders of such; patterns; URLs; numbers of cameras.

    Returns:
        One source for each video, those of a folder or a pattern in the order of their names.

    Raises:
        FileNotFoundError: there is nothing of that name, or the folder has no video.
        ValueError: a name is empty.
    """
    found = []
    for source in sources:
        path = _path(source).expanduser()
        if is_url(source) or path.is_file() or (is_camera(source) and not path.exists()):
            found.append(str(source) if not path.is_file() else str(path))
        elif path.is_dir():
            found += _videos_in(path)
        elif path.exists():
            raise FileNotFoundError(f'expected a video file, but {source} is no regular file')
        elif not any(char in source for char in '*?['):
            raise FileNotFoundError(f'expected a video file or a folder of images, but there is '
                                    f'nothing at {source}')
        else:
            matches = natsorted(glob.glob(str(path), recursive=True))
            files = [name for name in matches if Path(name).is_dir()
                     or Path(name).suffix.lower() in (*VIDEO_SUFFIXES, *IMAGE_SUFFIXES)]
            if not files:
                raise FileNotFoundError(f'expected videos, but none matches {source}')
            for name in files:
                found += _videos_in(Path(name)) if Path(name).is_dir() else [name]
    return found


def _path(source: str | PathLike) -> Path:
    """A path; an empty one, as of a variable that is not set, is not the current folder."""
    if not os.fspath(source).strip():
        raise ValueError('expected the path of a video, got an empty one')
    return Path(source)


def _videos_in(folder: Path) -> list[str]:
    """The folder, if it has images; else the videos in it, files and folders of images."""
    entries = natsorted(folder.iterdir())
    if any(entry.suffix.lower() in IMAGE_SUFFIXES and entry.is_file() for entry in entries):
        return [str(folder)]
    videos = [str(entry) for entry in entries if (
        any(file.suffix.lower() in IMAGE_SUFFIXES for file in entry.iterdir()) if entry.is_dir()
        else entry.suffix.lower() in VIDEO_SUFFIXES)]
    if not videos:
        raise FileNotFoundError(f'expected a folder with images ({", ".join(IMAGE_SUFFIXES)}) or '
                                f'with videos ({", ".join(VIDEO_SUFFIXES)}), but {folder} has '
                                'none')
    return videos


def open_source(source: str) -> 'FrameReader | LiveSource':
    """Open one of :func:`find_videos`: a camera, and a URL that states no length, are live.

    Raises:
        FileNotFoundError: there is no such video.
        ValueError: it cannot be decoded.
    """
    if is_camera(source) and not Path(source).exists():
        return LiveSource(source)
    if not is_url(source):
        return open_reader(source)
    live = LiveSource(source)
    if not live.states_its_length:
        return live
    live.close()
    return VideoFileReader(source)


def _open_stream(name: str, format: str | None = None, options: dict | None = None,
                 timeout: float | None = None
                 ) -> tuple[av.container.InputContainer, av.VideoStream]:
    """Open a container and its video, whose decoder may use some threads."""
    try:
        container = av.open(name, format=format, options=options or {}, timeout=timeout)
    except (av.FFmpegError, OSError) as error:
        reason = error.strerror or type(error).__name__
        raise ValueError(f'expected a video, but {name} cannot be opened as one: '
                         f'{reason}') from error
    try:
        streams = [stream for stream in container.streams.video
                   if not stream.disposition & Disposition.attached_pic]
        if not streams:
            kinds = sorted({stream.type for stream in container.streams})
            raise ValueError(f'expected a video, but {name} has no pictures that move, only '
                             f'{", ".join(kinds) or "an empty container"}')
        stream = streams[0]
        if stream.codec_context is None:
            # PyAV has no other name for it, and gives this one only while it logs: which it does
            # not otherwise, as a decoder's threads may then wait for Python's lock for ever.
            level = av.logging.get_level()
            av.logging.set_level(av.logging.INFO)
            codec = re.search(r'Video: ([^,\n]+)', container.dumps_format())
            av.logging.set_level(level)
            raise ValueError(
                f'expected a video that can be decoded, but FFmpeg {av.ffmpeg_version_info} in '
                f'PyAV {av.__version__} has no decoder for {codec[1] if codec else "the codec"} of '
                f'{name}; encode it anew where it plays: ffmpeg -i INPUT -c:v libx264 OUTPUT.mp4')
    except BaseException:
        container.close()
        raise
    stream.codec_context.thread_type = 'AUTO'
    stream.codec_context.thread_count = min(_THREADS, os.cpu_count() or 1)
    return container, stream


def _fps_of(stream: av.VideoStream) -> float:
    rate = stream.average_rate or stream.guessed_rate
    return float(rate) if rate else _DEFAULT_FPS


def _packets(container: av.container.InputContainer, stream: av.VideoStream, live: bool = False,
             lost: list | None = None) -> Iterator[av.Packet]:
    """Packets of a video up to its end, or to where it breaks off.

    A live one, and a recording of one, goes on after what was lost on the way. Where a live one
    breaks off that is an error. What is damaged is added to ``lost``.
    """
    goes_on, lost = live or container.format.name == 'mpegts', [] if lost is None else lost
    try:
        for packet in container.demux(stream):
            if packet.is_corrupt:
                lost.append(packet)
                if not goes_on:
                    return
            # An empty one would tell the decoder that there are no more.
            elif packet.size:
                yield packet
    except av.FFmpegError as error:
        lost.append(error)
        # FFmpeg's word for the end of what a web server sends without stating a length, too.
        may_end = error.errno == errno.EIO and is_url(container.name) and container.size < 0
        if live and not may_end:
            raise OSError(f'{container.name} broke off: '
                          f'{error.strerror or type(error).__name__}') from error
        return


def _frames(container: av.container.InputContainer, stream: av.VideoStream, live: bool = False
            ) -> Iterator[av.VideoFrame]:
    """Decoded frames of a video; those that cannot be decoded are left out."""
    for packet in _packets(container, stream, live):
        try:
            frames = packet.decode()
        except av.FFmpegError:
            continue
        yield from frames
    try:
        frames = stream.codec_context.decode(None)
    except av.FFmpegError:
        return
    yield from frames


def _stated_seconds(container: av.container.InputContainer, stream: av.VideoStream
                    ) -> float | None:
    """Length that the header of a Matroska file states for its video."""
    if not container.format.name.startswith('matroska'):
        return None
    if 'DURATION' in stream.metadata:
        hours, minutes, seconds = stream.metadata['DURATION'].split(':')
        return 3600 * int(hours) + 60 * int(minutes) + float(seconds)
    if len(container.streams) > 1 or container.duration is None:
        return None
    return container.duration / av.time_base


def _to_rgb(frame: av.VideoFrame, reformatter: VideoReformatter) -> np.ndarray:
    """The picture, uint8 (H, W, 3), turned as the file asks for.

    With one reformatter for all: a frame's own would stay with it, threads and all.
    """
    image = reformatter.reformat(frame, format='rgb24', threads=1).to_ndarray()
    matrix = frame.side_data.get('DISPLAYMATRIX')
    if matrix is None:
        return image
    # x' = a x + c y, y' = b x + d y, in units of 1 / 65536.
    (a, b, _), (c, d, _), _ = np.frombuffer(matrix, '<i4').reshape(3, 3).tolist()
    if abs(b) > abs(a):
        image, a, d = image.transpose(1, 0, 2), c, b
    return np.ascontiguousarray(image[::-1 if d < 0 else 1, ::-1 if a < 0 else 1])


def _warn(message: str) -> None:
    # MMEngine, which brings torch, is there by the time that a model reads videos.
    from mmengine.logging import print_log
    print_log(message, 'current', logging.WARNING)


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
        source: the path of a video file, of an image or of a folder with images, the URL of a
            video file, a list of RGB uint8 arrays (H, W, 3), an iterator of them, or a reader,
            which is returned as it is.

    Returns:
        The reader. Close it after use.

    Raises:
        FileNotFoundError: the path does not exist.
        ValueError: the source has no frame that can be decoded.
        TypeError: the source is none of the above.
    """
    if isinstance(source, FrameReader):
        return source
    if isinstance(source, str) and is_url(source):
        reader = open_source(source)
        if isinstance(reader, LiveSource):
            reader.close()
            raise ValueError(f'expected a video with an end, but {source} goes on; segment it with '
                             'GLUSInferencer.stream(LiveSource(URL), texts)')
        return reader
    if isinstance(source, (str, PathLike)):
        path = _path(source)
        if path.is_dir():
            return ImageFolderReader.from_folder(path)
        if not path.exists():
            raise FileNotFoundError(f'expected a video file or a folder of images, but there is '
                                    f'nothing at {source}')
        if path.suffix.lower() in IMAGE_SUFFIXES:
            return ImageFolderReader([path], str(path))
        return VideoFileReader(path)
    if isinstance(source, (list, tuple)):
        return ArrayReader(source)
    if isinstance(source, Iterable) and not isinstance(source, (np.ndarray, dict)):
        return SpooledReader(iter(source))
    raise TypeError('expected the path of a video or of a folder of images, a list of RGB arrays '
                    f'or an iterator of them, got {type(source).__name__}')
