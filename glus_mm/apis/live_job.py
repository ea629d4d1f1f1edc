"""Segment a camera or a stream from the network into a folder, until it ends."""

import time
from collections.abc import Callable, Sequence
from fractions import Fraction
from os import PathLike

import numpy as np

from glus_mm.apis.glus_inferencer import GLUSInferencer
from glus_mm.apis.result_files import RESULTS, ResultFiles, mask_path
from glus_mm.apis.segment_job import OVERLAY, count
from glus_mm.apis.segmentation import Segmentation
from glus_mm.apis.video_results import overlay_drawer
from glus_mm.text.prompt import clean_expression
from glus_mm.utils.masks import write_mask_png
from glus_mm.utils.paths import ensure_writable_dir, ensure_writable_file
from glus_mm.utils.video_writer import OverlayVideoWriter
from glus_mm.video import FrameReader, LiveSource

# Times of a live overlay are kept to this; it is the unit of most streams.
_TIME_BASE = Fraction(1, 90_000)


class LiveJob:
    """A live source, some texts and a folder for the results; a context manager.

    Frames that come while another one is segmented are left out, and each mask and each frame of
    the overlay keeps the time of its frame. Departure from the paper: context frames are drawn
    from what was seen so far, see :meth:`GLUSInferencer.stream`.

    Args:
        source: what is watched.
        texts: (E) referring expressions.
        out_dir: folder for ``live/<text number>/<frame>.png``, ``live/results.json`` and
            ``overlay.mp4``.
        overlay: whether to write the overlay.
        legend: of the overlay, ``'below'`` or ``'none'``.
        seconds: how long to watch; None until the source ends or Ctrl+C.
        timeout: seconds to wait for a frame.

    Raises:
        OSError: the folder cannot be written.
        ValueError: a text cannot be used.
    """

    name = 'live'

    def __init__(self, source: LiveSource, texts: Sequence[str], out_dir: str | PathLike,
                 overlay: bool = True, legend: str = 'below', seconds: float | None = None,
                 timeout: float = 30.0) -> None:
        for text in texts:
            clean_expression(text)
        self.source, self.texts, self.seconds = source, list(texts), seconds
        self.timeout = timeout
        self.out_dir = ensure_writable_dir(out_dir)
        for e in range(len(texts)):
            ensure_writable_dir(self.out_dir / self.name / str(e))
        self.overlay = ensure_writable_file(self.out_dir / OVERLAY) if overlay else None
        self._draw = overlay_drawer(self.texts, legend)

    def run(self, inferencer: GLUSInferencer, shown: Callable[[int], None] | None = None
            ) -> Segmentation:
        """Segment until the source ends, the time is over, or Ctrl+C.

        Args:
            inferencer: holds the model.
            shown: called with the number of frames after each.

        Returns:
            What is known of the masks, which are in files.

        Raises:
            TimeoutError: the source has stalled before its first frame.
            ValueError: it has no frame, or one that cannot be used.
        """
        names: list[str] = []
        times, is_seg, scores, shape = [], [], [], (0, 0)
        writer = None if self.overlay is None else OverlayVideoWriter(
            self.overlay, self.source.fps, time_base=_TIME_BASE)
        end = None if self.seconds is None else time.monotonic() + self.seconds
        with inferencer.stream(self.source, self.texts, timeout=self.timeout, on_stall='end',
                               skip_late=True) as stream:
            try:
                for frame in stream:
                    name = f'{frame.frame_idx:06d}'
                    for e, mask in enumerate(frame.masks):
                        write_mask_png(mask_path(self.out_dir, self.name, e, name), mask)
                    at = self.source.times[frame.frame_idx]
                    if writer is not None:
                        writer.write(self._draw(frame.image, frame.masks),
                                     Fraction(at - self.source.times[int(names[0])])
                                     if names else Fraction(0))
                    names.append(name)
                    times.append(at)
                    is_seg.append(frame.is_seg)
                    scores.append(frame.scores)
                    shape = frame.image.shape[:2]
                    if shown is not None:
                        shown(len(names))
                    if end is not None and time.monotonic() >= end:
                        break
            except KeyboardInterrupt:
                pass
            finally:
                if writer is not None:
                    writer.close()
        if not names:
            raise ValueError(f'expected frames from {self.source.source}, but none came within '
                             f'{self.timeout:g} s')
        seen = _SeenFrames(names, times, shape, self.source)
        out = Segmentation.begin(self.name, self.texts, seen, inferencer.model.trained_scores,
                                 keep_masks=False)
        out.is_seg, out.scores = np.stack(is_seg, 1), np.stack(scores, 1)
        out.made[:], out.key_frames = True, [0] * len(self.texts)
        with ResultFiles(self.out_dir, self.name, seen, self.texts, 'png') as files:
            files.finish(out, inferencer.model)
        return out

    def summary(self, out: Segmentation) -> str:
        """Two lines that say what was done and where the results are."""
        overlay = '' if self.overlay is None else f'   overlay: {self.overlay}'
        folder = self.out_dir / self.name
        return (f'{count(len(self.texts), "text")} on {count(len(out), "frame")} '
                f'of {self.source.source}; [SEG] on {out.is_seg.sum()} of '
                f'{count(out.is_seg.size, "mask")}\n'
                f'masks: {folder}   results: {folder / RESULTS}{overlay}')

    def __enter__(self) -> 'LiveJob':
        return self

    def __exit__(self, *exc: object) -> None:
        self.source.close()


class _SeenFrames(FrameReader):
    """What is known of frames that are gone."""

    def __init__(self, names: Sequence[str], times: Sequence[float], shape: tuple[int, int],
                 source: LiveSource) -> None:
        super().__init__(names, source.source)
        self._times, self._shape = times, shape
        self.fps, self.time_base = source.fps, _TIME_BASE

    def time(self, frame_idx: int) -> Fraction:
        return Fraction(self._times[frame_idx] - self._times[0])

    def _read(self, frame_idx: int) -> np.ndarray:
        raise ValueError('a live source does not show a frame again')
