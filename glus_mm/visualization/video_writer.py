"""Write frames into an mp4, one at a time."""

import math
from os import PathLike
from types import TracebackType

import imageio.v2 as imageio
import numpy as np

from glus_mm.utils.image import check_frame
from glus_mm.utils.paths import ensure_writable_file


class OverlayVideoWriter:
    """An H.264 video that every player shows (yuv420p), written as its frames come.

    Use it as a context manager. H.264 wants even sizes: an odd one gets its last row or column
    twice. Nothing is written before the first frame.

    Args:
        path: the mp4; an existing file is replaced.
        fps: frames per second.

    Raises:
        ValueError: ``fps`` is no positive number.
        OSError: the file cannot be written.
    """

    def __init__(self, path: str | PathLike, fps: float) -> None:
        if not (math.isfinite(fps) and fps > 0):
            raise ValueError(f'expected a positive number of frames per second, got {fps!r}')
        self.path = ensure_writable_file(path)
        self.fps = fps
        self._shape: tuple[int, ...] | None = None
        self._writer: imageio.core.format.Writer | None = None

    def write(self, frame: np.ndarray) -> None:
        """Append a frame.

        Args:
            frame: uint8 (H, W, 3) in RGB; all of one size.

        Raises:
            ValueError: it is no such frame, or has another size than the first.
        """
        check_frame(frame, f'a frame for {self.path}')
        if self._writer is None:
            self._shape = frame.shape
            # 8 of imageio's 10: masks keep clean edges. Macro blocks of 2 keep the size.
            self._writer = imageio.get_writer(
                str(self.path), format='FFMPEG', mode='I', fps=self.fps, codec='libx264',
                quality=8, pixelformat='yuv420p', macro_block_size=2, ffmpeg_log_level='error')
        if frame.shape != self._shape:
            raise ValueError(f'expected frames of (H, W) = {self._shape[:2]} as the first one, '
                             f'got {frame.shape[:2]}: {self.path}')
        height, width = frame.shape[:2]
        self._writer.append_data(
            np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode='edge'))

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
