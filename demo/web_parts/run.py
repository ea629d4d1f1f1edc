"""One video on its way through the model."""

import queue
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from glus_mm.apis.glus_inferencer import GLUSInferencer
from glus_mm.apis.incomplete_video_error import IncompleteVideoError
from glus_mm.models.inference import MaskPrediction
from glus_mm.utils.masks import decode_rle, encode_mask
from glus_mm.video import FrameReader
from glus_mm.visualization import RefVOSLocalVisualizer
from web_parts.limits import WebInputError


@dataclass(frozen=True)
class Preview:
    """How far a run is.

    Args:
        done: masks that were made.
        total: masks that will be made.
        frame_idx: 0-based position of the frame that was made last.
        image: uint8 (H, W, 3) in RGB, that frame with its masks.
    """

    done: int
    total: int
    frame_idx: int
    image: np.ndarray


class _StoppedError(Exception):
    """Nobody waits for the masks any more."""


class SegmentationRun:
    """Segments in a thread, so that what is made can be shown while the rest is being made.

    Args:
        inferencer: holds the model.
        reader: the frames; not closed here.
        texts: (E) expressions.
        visualizer: draws the previews.
        max_seconds: time that the model may work.
        interval: seconds between two previews, at least; the first comes with the first mask.

    Attributes:
        rles (list[list[dict | None]]): (E)(T) COCO RLEs, None where no mask was made.
        out (dict): what the inferencer returned, after the run.
        breaks_off (bool): the video has fewer frames than it states.
    """

    def __init__(self, inferencer: GLUSInferencer, reader: FrameReader, texts: Sequence[str],
                 visualizer: RefVOSLocalVisualizer, max_seconds: float, interval: float = 0.5
                 ) -> None:
        self.rles: list[list[dict | None]] = [[None] * len(reader) for _ in texts]
        self.out: dict = {}
        self.breaks_off = False
        self._inferencer, self._reader, self._texts = inferencer, reader, list(texts)
        self._visualizer = visualizer
        self._max_seconds, self._interval = max_seconds, interval
        self._messages: queue.SimpleQueue[Preview | Exception | None] = queue.SimpleQueue()
        self._stopped = threading.Event()
        self._done, self._next_preview, self._deadline = 0, 0.0, 0.0

    def previews(self) -> Iterator[Preview]:
        """Segment; what was made is in ``rles`` and ``out`` after the last preview.

        Closing the iterator stops the run before its next mask.

        Yields:
            How far the run is. Those that nobody fetches in time are left out.

        Raises:
            WebInputError: the work takes too long, or the video cannot be read.
        """
        self._deadline = time.monotonic() + self._max_seconds
        thread = threading.Thread(target=self._work, name='segment', daemon=True)
        thread.start()
        try:
            while (message := self._messages.get()) is not None:
                if isinstance(message, Exception):
                    raise message
                yield message
        finally:
            self._stopped.set()
            thread.join()

    def _work(self) -> None:
        try:
            self.out = self._inferencer(self._reader, self._texts, callback=self._take)
        except IncompleteVideoError as error:
            if not self._done:
                self._messages.put(WebInputError('the video breaks off before its first mask'))
            self.out, self.breaks_off = error.result, True
        except _StoppedError:
            pass
        except Exception as error:  # noqa: BLE001 - it is raised where the previews are fetched
            self._messages.put(error)
        finally:
            self._messages.put(None)

    def _take(self, frame_idx: int, exps: list[int], pred: MaskPrediction) -> None:
        now = time.monotonic()
        if self._stopped.is_set():
            raise _StoppedError
        if now > self._deadline:
            raise WebInputError(f'the run took more than {self._max_seconds:g} seconds; try fewer '
                                'expressions, fewer frames per second or a shorter video')
        for e, mask in zip(exps, pred.masks.cpu().numpy()):
            self.rles[e][frame_idx] = encode_mask(mask)
        self._done += len(exps)
        if now >= self._next_preview and self._messages.empty():
            self._messages.put(self._preview(frame_idx))
            self._next_preview = time.monotonic() + self._interval

    def _preview(self, frame_idx: int) -> Preview:
        image = self._reader.read(frame_idx)
        masks = decode_track(self.rles, frame_idx, image.shape[:2])
        drawn = self._visualizer.draw_frame(image, masks, self._texts,
                                            caption=self._reader.frame_names[frame_idx])
        return Preview(self._done, len(self._texts) * len(self._reader), frame_idx, drawn)


def decode_track(rles: Sequence[Sequence[dict | None]], frame_idx: int, size: tuple[int, int]
                 ) -> np.ndarray:
    """Masks of one frame.

    Args:
        rles: (E)(T) COCO RLEs; None counts as empty.
        frame_idx: 0-based position.
        size: (H, W).

    Returns:
        bool (E, H, W).
    """
    masks = np.zeros((len(rles), *size), dtype=bool)
    for mask, track in zip(masks, rles):
        if track[frame_idx] is not None:
            mask[:] = decode_rle(track[frame_idx])
    return masks
