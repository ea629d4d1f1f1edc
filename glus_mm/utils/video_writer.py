"""Write frames into an mp4, a webm with alpha or a GIF, one at a time."""

import math
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from os import PathLike
from types import TracebackType

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from glus_mm.utils.paths import ensure_writable_file
from glus_mm.video import check_frame

# Of 0..51: masks keep clean edges.
_CRF = '10'
# Kinds of sound that players expect in an mp4; others become AAC.
_MP4_AUDIO = ('aac', 'mp3', 'ac3', 'eac3', 'alac', 'opus')
_SUFFIXES = ('.mp4', '.gif', '.webm')

_MIN_FPS, _MAX_FPS = 1e-4, 1e6


def check_fps(fps: float, what: str = 'number of frames per second') -> None:
    """Raise ``ValueError`` unless a video can have so many frames per second."""
    if not _MIN_FPS <= fps <= _MAX_FPS:
        raise ValueError(f'expected a positive {what}, from {_MIN_FPS:g} to {_MAX_FPS:,.0f}, got '
                         f'{fps!r}')


class OverlayVideoWriter:
    """An H.264 video that every player shows (yuv420p), a GIF, or a VP9 video with alpha.

    Use it as a context manager. H.264 wants even sizes: an odd one gets its last row or column
    twice. Nothing is written before the first frame. A GIF repeats for ever; its palette is made
    from all frames, which are held until the end, so their number is bounded.

    Args:
        path: the file, which ends in ``.mp4``, ``.gif`` or ``.webm``; an existing one is replaced.
        fps: frames per second, where frames come without times; a GIF rounds their duration to
            10 ms.
        max_gif_pixels: bound of frames times height times width of a GIF.
        time_base: unit of the frames' times in seconds, which makes them exact.
        audio: a file whose sound an mp4 gets; one without sound gives none.
        threads: of the encoder; 0 as many as the machine has cores.

    Raises:
        ValueError: ``fps`` is out of its range, or ``path`` ends in something else.
        OSError: the file cannot be written.
    """

    def __init__(self, path: str | PathLike, fps: float, max_gif_pixels: int = 200_000_000,
                 time_base: Fraction | None = None, audio: str | PathLike | None = None,
                 threads: int = 0) -> None:
        check_fps(fps)
        self.path = ensure_writable_file(path)
        suffix = self.path.suffix.lower()
        if suffix not in _SUFFIXES:
            raise ValueError(f'expected the name of an .mp4, .gif or .webm file, got {path}')
        self._is_gif, self._channels = suffix == '.gif', 4 if suffix == '.webm' else 3
        self.fps = fps
        rate = Fraction(fps).limit_denominator(1_001_000)
        self._time_base = time_base or 1 / rate
        self._step = 1 / (rate * self._time_base)
        self._threads = threads
        self._audio_source = None if audio is None else str(audio)
        self._pixels_left = max_gif_pixels if self._is_gif else math.inf
        self._shape: tuple[int, ...] | None = None
        self._container: av.container.OutputContainer | None = None
        self._count, self._last = 0, -1
        self._reformatter = VideoReformatter()

    def write(self, frame: np.ndarray, time: Fraction | None = None) -> None:
        """Append a frame.

        Args:
            frame: uint8 (H, W, 3) in RGB, (H, W, 4) with alpha for a webm; all of one size.
            time: seconds from the first frame, ascending; by default they follow ``fps``.

        Raises:
            ValueError: it is no such frame, has another size than the first, or is more than
                a GIF may have.
        """
        if self._channels == 3:
            check_frame(frame, f'a frame for {self.path}')
        if self._container is None:
            self._shape = frame.shape
            self._open(*frame.shape[:2])
        if frame.shape != self._shape:
            raise ValueError(f'expected frames of (H, W) = {self._shape[:2]} as the first one, '
                             f'got {frame.shape[:2]}: {self.path}')
        height, width = frame.shape[:2]
        self._pixels_left -= height * width
        if self._pixels_left < 0:
            raise ValueError(f'{self.path} would be too large for a GIF with another frame of '
                             f'(H, W) = {(height, width)}; write an .mp4, or fewer or smaller '
                             'frames')
        if not self._is_gif:
            frame = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode='edge')
        picture = av.VideoFrame.from_ndarray(
            np.ascontiguousarray(frame), format='rgba' if self._channels == 4 else 'rgb24')
        at = self._count * self._step if time is None else time / self._time_base
        picture.pts = self._last = max(round(at), self._last + 1)
        picture.time_base = self._time_base
        self._count += 1
        if self._is_gif:
            self._palette.push(picture)
            return
        self._container.mux(self._stream.encode(self._reformatter.reformat(
            picture, format=self._stream.pix_fmt, threads=1)))
        self._copy_audio(float(self._last * self._time_base))

    def _open(self, height: int, width: int) -> None:
        if self._is_gif:
            codec, pixels, options, format_options = 'gif', 'pal8', {}, {}
            self._palette = _palette_graph(width, height, self._time_base)
        elif self._channels == 4:
            height, width = height + height % 2, width + width % 2
            codec, pixels = 'libvpx-vp9', 'yuva420p'
            # Without automatic reference frames, which the encoder cannot make with alpha.
            options, format_options = {'crf': '18', 'b': '0', 'auto-alt-ref': '0',
                                       'deadline': 'realtime', 'cpu-used': '6'}, {}
        else:
            height, width = height + height % 2, width + width % 2
            # With the index at its front a browser plays the file while it loads.
            codec, pixels = 'libx264', 'yuv420p'
            options, format_options = {'crf': _CRF}, {'movflags': '+faststart'}
        self._container = av.open(str(self.path), 'w', options=format_options)
        self._stream = self._container.add_stream(
            codec, rate=Fraction(self.fps).limit_denominator(1_001_000), options=options)
        self._stream.width, self._stream.height = width, height
        self._stream.pix_fmt = pixels
        self._stream.codec_context.time_base = self._time_base
        self._stream.codec_context.thread_count = self._threads
        has_sound = not self._is_gif and self._channels == 3
        self._audio = self._open_audio() if has_sound else iter(())
        self._waiting = next(self._audio, None)

    def _open_audio(self) -> Iterator[av.Packet]:
        """Add the sound of the source; gives its packets, from the first frame's time on.

        The stream has to be there before anything is written, packets come as they are asked for.
        """
        if self._audio_source is None:
            return iter(())
        source = av.open(self._audio_source)
        if not source.streams.audio or source.streams.audio[0].codec_context is None:
            source.close()
            return iter(())
        stream = source.streams.audio[0]
        # What the video's times are counted from.
        start = Fraction(0)
        if source.streams.video:
            video = source.streams.video[0]
            start = (video.start_time or 0) * video.time_base
        if stream.codec_context.name in _MP4_AUDIO:
            target = self._container.add_stream_from_template(stream)
            return _copied(source, stream, target, start)
        target = self._container.add_stream('aac', rate=stream.codec_context.sample_rate)
        return _encoded(source, stream, target, start)

    def _copy_audio(self, until: float) -> None:
        """Write the sound up to a time in seconds."""
        while self._waiting is not None and \
                float(self._waiting.dts * self._waiting.time_base) <= until:
            self._container.mux(self._waiting)
            self._waiting = next(self._audio, None)

    def close(self) -> None:
        """Finish the file; further calls do nothing."""
        if self._container is None:
            return
        container, self._container = self._container, None
        with container:
            if self._is_gif:
                self._palette.push(None)
                with suppress(av.BlockingIOError, av.EOFError):
                    while True:
                        container.mux(self._stream.encode(self._palette.pull()))
            container.mux(self._stream.encode(None))
            # No longer than the last frame is shown.
            end = float((self._last + self._step) * self._time_base)
            self._container = container
            self._copy_audio(end)
            self._container = None

    def __enter__(self) -> 'OverlayVideoWriter':
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()


def _palette_graph(width: int, height: int, time_base: Fraction) -> av.filter.Graph:
    """One palette for the whole GIF, and no dithering: flat colours stay flat, so that a still
    ground costs next to nothing."""
    graph = av.filter.Graph()
    source = graph.add_buffer(width=width, height=height, format='rgb24', time_base=time_base)
    split = graph.add('split')
    make = graph.add('palettegen', 'stats_mode=full')
    use = graph.add('paletteuse', 'dither=none:diff_mode=rectangle')
    source.link_to(split)
    split.link_to(use, 0, 0)
    split.link_to(make, 1, 0)
    make.link_to(use, 0, 1)
    use.link_to(graph.add('buffersink'))
    graph.configure()
    return graph


def _copied(source: av.container.InputContainer, stream: av.AudioStream,
            target: av.AudioStream, start: Fraction) -> Iterator[av.Packet]:
    """Packets of a sound, as they are."""
    shift = round(start / stream.time_base)
    with source:
        for packet in _unbroken(source.demux(stream)):
            # A decoder of sound starts up on what comes before.
            if packet.dts is None or packet.pts is None or \
                    packet.pts + 2 * (packet.duration or 0) < shift:
                continue
            packet.pts -= shift
            packet.dts -= shift
            packet.stream = target
            yield packet


def _encoded(source: av.container.InputContainer, stream: av.AudioStream,
             target: av.AudioStream, start: Fraction) -> Iterator[av.Packet]:
    """Packets of a sound, encoded anew."""
    first = None
    with source:
        for frame in _unbroken(source.decode(stream)):
            if frame.time is None or frame.time < start:
                continue
            first = frame.pts if first is None else first
            frame.pts -= round(start / frame.time_base)
            yield from target.encode(frame)
        yield from target.encode(None)


def _unbroken(items: Iterator) -> Iterator:
    """What comes before the sound breaks off."""
    try:
        yield from items
    except av.FFmpegError:
        return
