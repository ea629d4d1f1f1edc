"""Write frames into an mp4 or a GIF, one at a time."""

import math
from collections.abc import Generator
from os import PathLike
from types import TracebackType

import imageio_ffmpeg
import numpy as np

from glus_mm.utils.image import check_frame
from glus_mm.utils.paths import ensure_writable_file

# One palette for the whole GIF, and no dithering: flat colours stay flat, so that a still ground
# costs next to nothing.
_GIF_FILTER = ('split[frames][copy];[copy]palettegen=stats_mode=full[palette];'
               '[frames][palette]paletteuse=dither=none:diff_mode=rectangle')


class OverlayVideoWriter:
    """An H.264 video that every player shows (yuv420p), or a GIF, written as its frames come.

    Use it as a context manager. H.264 wants even sizes: an odd one gets its last row or column
    twice. Nothing is written before the first frame. A GIF repeats for ever; its palette is made
    from all frames, which FFmpeg holds until the end, so their number is bounded.

    Args:
        path: the file, which ends in ``.mp4`` or ``.gif``; an existing one is replaced.
        fps: frames per second; a GIF rounds their duration to 10 ms, the shortest is 20 ms.
        max_gif_pixels: bound of frames times height times width of a GIF.

    Raises:
        ValueError: ``fps`` is no positive number, or ``path`` ends in something else.
        OSError: the file cannot be written.
    """

    def __init__(self, path: str | PathLike, fps: float, max_gif_pixels: int = 200_000_000
                 ) -> None:
        if not (math.isfinite(fps) and fps > 0):
            raise ValueError(f'expected a positive number of frames per second, got {fps!r}')
        self.path = ensure_writable_file(path)
        if self.path.suffix.lower() not in ('.mp4', '.gif'):
            raise ValueError(f'expected the name of an .mp4 or a .gif file, got {path}')
        self.fps = fps
        self._pixels_left = max_gif_pixels if self._is_gif else math.inf
        self._shape: tuple[int, ...] | None = None
        self._writer: Generator[None, bytes, None] | None = None

    @property
    def _is_gif(self) -> bool:
        return self.path.suffix.lower() == '.gif'

    def write(self, frame: np.ndarray) -> None:
        """Append a frame.

        Args:
            frame: uint8 (H, W, 3) in RGB; all of one size.

        Raises:
            ValueError: it is no such frame, has another size than the first, or is more than
                a GIF may have.
        """
        check_frame(frame, f'a frame for {self.path}')
        if self._writer is None:
            self._shape = frame.shape
            self._writer = self._open(*frame.shape[:2])
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
        self._writer.send(np.ascontiguousarray(frame))

    def _open(self, height: int, width: int) -> Generator[None, bytes, None]:
        if self._is_gif:
            options = dict(codec='gif', quality=None, pix_fmt_out='pal8',
                           output_params=['-vf', _GIF_FILTER])
        else:
            height, width = height + height % 2, width + width % 2
            # 8 of 10: masks keep clean edges. With the index at its front a browser plays the
            # file while it loads.
            options = dict(codec='libx264', quality=8, pix_fmt_out='yuv420p',
                           output_params=['-movflags', '+faststart'])
        # Blocks of more than a pixel would have FFmpeg scale the frames.
        writer = imageio_ffmpeg.write_frames(
            str(self.path), (width, height), fps=self.fps, macro_block_size=1,
            ffmpeg_log_level='error', **options)
        writer.send(None)
        return writer

    def close(self) -> None:
        """Finish the file; further calls do nothing."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def __enter__(self) -> 'OverlayVideoWriter':
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()
