"""One video on its way through the model."""

import queue
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from glus_mm.apis import GLUSInferencer, IncompleteVideoError, RefinementSession, Segmentation
from glus_mm.apis.refinement_session import check_takes_clicks
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
        out (Segmentation | None): what the inferencer returned, after the run.
        session (RefinementSession | None): takes clicks, after the run of a model that knows them.
    """

    def __init__(self, inferencer: GLUSInferencer, reader: FrameReader, texts: Sequence[str],
                 visualizer: RefVOSLocalVisualizer, max_seconds: float, interval: float = 0.5
                 ) -> None:
        self.rles: list[list[dict | None]] = [[None] * len(reader) for _ in texts]
        self.out: Segmentation | None = None
        self.session: RefinementSession | None = None
        self._inferencer, self._reader, self._texts = inferencer, reader, list(texts)
        self._visualizer = visualizer
        self._max_seconds, self._interval = max_seconds, interval
        self._messages: queue.SimpleQueue[Preview | Exception | None] = queue.SimpleQueue()
        self._stopped = threading.Event()
        self._done, self._next_preview, self._deadline = 0, 0.0, 0.0
        try:
            check_takes_clicks(inferencer.model)
            self._takes_clicks = True
        except ValueError:
            self._takes_clicks = False

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
            if self._takes_clicks:
                self.session = self._inferencer.session(self._reader, self._texts,
                                                        callback=self._take)
                self.out = self.session.out
            else:
                self.out = self._inferencer(self._reader, self._texts, callback=self._take)
        except IncompleteVideoError as error:
            if not self._done:
                self._messages.put(WebInputError('the video breaks off before its first mask'))
            self.out = error.result
        except _StoppedError:
            pass
        except Exception as error:  # noqa: BLE001 - it is raised where the previews are fetched
            self._messages.put(error)
        finally:
            if self.out is not None and self.out.masks is not None:
                self.rles = [track.rles for track in self.out.masks]
            self._messages.put(None)

    def _take(self, frame_idx: int, exps: list[int], pred: MaskPrediction) -> None:
        now = time.monotonic()
        if self._stopped.is_set():
            raise _StoppedError
        if now > self._deadline:
            raise WebInputError(f'the run took more than {self._max_seconds:g} seconds; try fewer '
                                'expressions, fewer frames per second or a shorter video')
        masks = pred.masks.cpu().numpy()
        if not self._takes_clicks:  # else the session holds them
            for e, mask in zip(exps, masks):
                self.rles[e][frame_idx] = encode_mask(mask)
        self._done += len(exps)
        if now >= self._next_preview and self._messages.empty():
            shown = np.zeros((len(self._texts), *masks.shape[1:]), dtype=bool)
            shown[exps] = masks
            self._messages.put(Preview(self._done, len(self._texts) * len(self._reader), frame_idx,
                                       self.draw(frame_idx, shown)))
            self._next_preview = time.monotonic() + self._interval

    def draw(self, frame_idx: int, masks: np.ndarray | None = None) -> np.ndarray:
        """A frame with its masks, and a dot for each click: green on the object, red off it.

        Args:
            frame_idx: 0-based position.
            masks: bool (E, H, W); None for those of the result.

        Returns:
            uint8 (H', W', 3) in RGB, see :meth:`shown_size`; a legend is below.
        """
        image, out = self._reader.read(frame_idx), self.out
        if masks is None:
            masks = decode_track(self.rles, frame_idx, image.shape[:2])
        scores = None
        if out is not None and 'scores' in out.trained_scores:
            scores = out.scores[:, frame_idx].tolist()
        drawn = self._visualizer.draw_frame(image, masks, self._texts, scores=scores,
                                            caption=self._reader.frame_names[frame_idx])
        width, height = self.shown_size()
        for click in [click for clicks in (out.clicks if out else {}).values() for click in clicks]:
            for (x, y), label in zip(click['points'], click['labels']):
                if click['frame'] == frame_idx:
                    place = (round((x + .5) * width / image.shape[1]),
                             round((y + .5) * height / image.shape[0]))
                    cv2.circle(drawn, place, 7, (255, 255, 255), -1, cv2.LINE_AA)
                    cv2.circle(drawn, place, 5, (0, 150, 0) if label else (220, 0, 0), -1,
                               cv2.LINE_AA)
        return drawn

    def shown_size(self) -> tuple[int, int]:
        """Width and height at which :meth:`draw` shows a frame, without the legend."""
        height, width = self._reader.shape
        shown = max(width, self._visualizer.min_width)
        return shown, round(height * shown / width)


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
