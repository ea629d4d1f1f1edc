"""Some frames of a video, and a video within limits."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from glus_mm.apis.web.web_input_error import WebInputError
from glus_mm.apis.web.web_limits import WebLimits
from glus_mm.models.inference import FrameReader, VideoFileReader


class ThinnedReader(FrameReader):
    """Some of the frames of another reader, as a video of their own.

    Args:
        reader: all frames; :meth:`close` closes it.
        frame_ids: (T) ascending 0-based positions in it.
        fps: frames per second of the new video.
    """

    def __init__(self, reader: FrameReader, frame_ids: Sequence[int], fps: float) -> None:
        self._reader = reader
        self.frame_ids = tuple(frame_ids)
        self.fps = fps
        super().__init__([reader.frame_names[t] for t in self.frame_ids], reader.source)
        self.breaks_off = reader.breaks_off

    def _read(self, frame_idx: int) -> np.ndarray:
        return self._reader.read(self.frame_ids[frame_idx])

    def close(self) -> None:
        """Close the reader of all frames."""
        self._reader.close()


def open_limited_video(path: str | Path, limits: WebLimits, max_fps: float | None = None
                       ) -> ThinnedReader:
    """Open the video of a user, who may have sent anything.

    Args:
        path: the file.
        limits: what it may have.
        max_fps: frames are left out, evenly, where the video has more per second; None keeps all.

    Returns:
        The frames to segment. Close it after use.

    Raises:
        WebInputError: it is no video, or exceeds a limit. The message has no path.
    """
    _check_size(path, limits)
    try:
        reader = VideoFileReader(path)
    except (OSError, ValueError) as error:
        raise WebInputError('expected a video file, but no frame of it can be decoded') from error
    fps = reader.fps
    if max_fps is None or fps <= max_fps:
        frame_ids, out_fps = range(len(reader)), fps
    else:
        count = int((len(reader) - 1) * max_fps / fps) + 1
        frame_ids, out_fps = [int(k * fps / max_fps) for k in range(count)], max_fps
    if len(frame_ids) > limits.max_frames:
        reader.close()
        raise WebInputError(f'expected at most {limits.max_frames} frames to segment, got '
                            f'{len(frame_ids)}; choose fewer frames per second or a shorter video')
    return ThinnedReader(reader, frame_ids, out_fps)


def _check_size(path: str | Path, limits: WebLimits) -> None:
    """Compare a file with the limits before much of it is decoded."""
    capture = cv2.VideoCapture(str(path))
    try:
        if not capture.isOpened():
            raise WebInputError('expected a video file, but it cannot be opened as one')
        width, height = (int(capture.get(key)) for key in
                         (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
        if width * height > limits.max_megapixels * 1e6:
            raise WebInputError(f'expected frames of at most {limits.max_megapixels:g} million '
                                f'pixels, got {width} x {height}')
        fps = capture.get(cv2.CAP_PROP_FPS)
        fps = fps if fps > 0 else 25.0
        most = min(limits.max_frames * 10, int(limits.max_seconds * fps) + 1)
        stated = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        count = 0
        # A header may state anything, so the frames are counted, too, as far as they may go.
        while stated <= most and count <= most and capture.grab():
            count += 1
        if max(stated, count) > most:
            raise WebInputError(
                f'expected at most {most} frames, which are {most / fps:.0f} seconds of this '
                f'video, got {"more" if count > most else stated}')
    finally:
        capture.release()
