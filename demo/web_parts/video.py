"""Some frames of a video, and a video within limits."""

import bisect
import math
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from glus_mm.video import FrameReader, ReorderedReader, VideoFileReader, read_header
from web_parts.store import WebInputError, WebLimits

# What a decoder is fed with at all: an 8K frame.
_MAX_DECODED_MEGAPIXELS = 36


class ThinnedReader(ReorderedReader):
    """Some of the frames of another reader, as a video of their own.

    Args:
        reader: all frames; :meth:`close` closes it.
        frame_ids: (T) ascending 0-based positions in it.
        fps: frames per second of the new video.
        max_pixels: larger frames are scaled down to so many; None for none.

    Attributes:
        scaled (tuple | None): (H, W) of the frames before they were scaled down.
    """

    def __init__(self, reader: FrameReader, frame_ids: Sequence[int], fps: float,
                 max_pixels: float | None = None) -> None:
        super().__init__(reader, frame_ids)
        self.fps, self.time_base = fps, reader.time_base
        self.breaks_off = reader.breaks_off
        height, width = reader.shape
        self.scaled, self._size = None, None
        if max_pixels is not None and height * width > max_pixels:
            factor = math.sqrt(max_pixels / (height * width))
            self.scaled = height, width
            self._size = tuple(max(2, int(side * factor) // 2 * 2) for side in (width, height))

    def time(self, frame_idx: int) -> Fraction | None:
        """See :meth:`FrameReader.time`."""
        if self.time_base is None:
            return None
        return self.reader.time(self.order[frame_idx]) - self.reader.time(self.order[0])

    def _read(self, frame_idx: int) -> np.ndarray:
        image = super()._read(frame_idx)
        return image if self._size is None else cv2.resize(image, self._size,
                                                           interpolation=cv2.INTER_AREA)

    def close(self) -> None:
        """Close the reader of all frames."""
        self.reader.close()


def open_limited_video(path: str | Path, limits: WebLimits, max_fps: float | None = None
                       ) -> ThinnedReader:
    """Open the video of a user, who may have sent anything.

    Args:
        path: the file.
        limits: what it may have.
        max_fps: frames are left out, evenly in time, where the video has more per second; None
            keeps all.

    Returns:
        The frames to segment. Close it after use.

    Raises:
        WebInputError: it is no video, or exceeds a limit. The message has no path.
    """
    try:
        header = read_header(path)
    except (OSError, ValueError) as error:
        raise WebInputError('expected a video file, but it cannot be opened as one') from error
    if header.width * header.height > _MAX_DECODED_MEGAPIXELS * 1e6:
        raise WebInputError(f'expected frames of at most {_MAX_DECODED_MEGAPIXELS} million pixels, '
                            f'got {header.width} x {header.height}')
    most = min(limits.max_frames * 10, int(limits.max_seconds * header.fps) + 1)
    too_many = (f'expected at most {most} frames, which are {most / header.fps:.0f} seconds of '
                'this video, got ')
    if header.num_frames > most:
        raise WebInputError(f'{too_many}{header.num_frames}')
    try:
        # A header may state anything.
        reader = VideoFileReader(path, max_frames=most)
        reader.read(0)
    except (OSError, ValueError) as error:
        if 'expected at most' in str(error):
            raise WebInputError(f'{too_many}more') from error
        raise WebInputError('expected a video file, but no frame of it can be decoded') from error
    frame_ids, fps = range(len(reader)), reader.fps
    if max_fps is not None and fps > max_fps:
        times = [reader.time(t) for t in frame_ids]
        count = int(times[-1] * Fraction(max_fps)) + 1
        frame_ids = sorted({bisect.bisect_right(times, k / Fraction(max_fps)) - 1
                            for k in range(count)})
        fps = max_fps
    if len(frame_ids) > limits.max_frames:
        reader.close()
        raise WebInputError(f'expected at most {limits.max_frames} frames to segment, got '
                            f'{len(frame_ids)}; choose fewer frames per second or a shorter video')
    return ThinnedReader(reader, frame_ids, fps, limits.max_megapixels * 1e6)
