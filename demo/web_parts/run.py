"""One video on its way through the model."""

import json
import queue
import threading
import time
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from torch import nn

from glus_mm.apis import GLUSInferencer, IncompleteVideoError, RefinementSession, Segmentation
from glus_mm.apis.refinement_session import check_takes_clicks
from glus_mm.apis.result_files import RESULTS, results_document
from glus_mm.models.inference import MaskPrediction
from glus_mm.utils.masks import decode_rle, encode_mask
from glus_mm.video import FrameReader
from glus_mm.visualization import OverlayVideoWriter, RefVOSLocalVisualizer
from web_parts.store import WebInputError

_JPEG_QUALITY = 90


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


# What is plotted: the first of these that there is.
_CURVES = dict(
    key_frame_scores='key-frame score',
    scores='expected IoU of the mask',
    presence='probability that the object is visible')


@dataclass(frozen=True)
class SegmentationResult:
    """A finished run; its masks lie in the files of a folder.

    Args:
        folder: holds ``overlay.mp4``, ``masks.zip``, ``masks.json`` and ``frames/``.
        texts: (E) expressions.
        num_frames: T, those that were segmented.
        fps: frames per second of the overlay.
        curves: (E, T) key-frame scores where the selector has some, else the expected IoU or the
            presence where the model was trained to give it, nan where there is none; None where
            the model was trained for none of them.
        curve_title: what the curves are.
        key_frames: (E) 0-based positions where propagation started.
        notes: what the user should know, such as frames without ``[SEG]``.
        seconds: time that the model worked.
        key: what the service knows the open video by; empty where it takes no clicks.
    """

    folder: Path
    texts: tuple[str, ...]
    num_frames: int
    fps: float
    curves: np.ndarray | None
    curve_title: str
    key_frames: tuple[int, ...]
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    key: str = ''

    @property
    def overlay(self) -> Path:
        """H.264 video with the masks in colour."""
        return self.folder / 'overlay.mp4'

    @property
    def masks_zip(self) -> Path:
        """``<text number>/<frame>.png`` (mode L, 0 and 255), ``results.json`` with the
        clicks, and ``expressions.json``."""
        return self.folder / 'masks.zip'

    @property
    def masks_json(self) -> Path:
        """COCO RLEs, key frames, and scores of a model that was trained to give them."""
        return self.folder / 'masks.json'

    def frame(self, frame_idx: int) -> Path | None:
        """A drawn frame as JPEG.

        Args:
            frame_idx: 0-based position; one outside means the nearest.

        Returns:
            The file, None once the store has removed it.
        """
        frame_idx = min(max(int(frame_idx), 0), self.num_frames - 1)
        path = self.folder / 'frames' / f'{frame_idx:05d}.jpg'
        return path if path.is_file() else None

    @classmethod
    def write(cls, folder: Path, reader: FrameReader, run: SegmentationRun,
              texts: tuple[str, ...], model: nn.Module, seconds: float,
              notes: Sequence[str] = (), key: str = '') -> 'SegmentationResult':
        """Draw and pack what a run has made.

        Args:
            folder: an empty one.
            reader: the frames, with their ``fps``.
            run: finished.
            texts: (E) expressions.
            model: what made the masks.
            seconds: time that it worked.
            notes: what else the user should know.
            key: see above.
        """
        out = run.out
        shown = next((name for name in _CURVES if name in out.trained_scores
                      or name == 'key_frame_scores' and name in out), None)
        # A video that breaks off has masks up to there.
        num_frames = 1 + max(t for track in run.rles for t, rle in enumerate(track) if rle)
        result = cls(
            folder=folder, texts=texts, num_frames=num_frames, fps=reader.fps,
            curves=None if shown is None else np.asarray(
                out[shown], dtype=np.float32)[:, :num_frames],
            curve_title=_CURVES.get(shown, ''),
            key_frames=tuple(int(k) for k in out.key_frames),
            notes=(*notes, *_notes(reader, run, texts, num_frames)), seconds=seconds,
            key=key)
        result._draw(reader, run)
        result._pack(reader, run, model)
        return result

    def _draw(self, reader: FrameReader, run: SegmentationRun) -> None:
        (self.folder / 'frames').mkdir()
        with OverlayVideoWriter(self.overlay, self.fps, time_base=reader.time_base) as writer:
            for t in range(self.num_frames):
                drawn = run.draw(t)
                writer.write(drawn, reader.time(t))
                _, data = cv2.imencode('.jpg', cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR),
                                       [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
                (self.folder / 'frames' / f'{t:05d}.jpg').write_bytes(data.tobytes())

    def _pack(self, reader: FrameReader, run: SegmentationRun, model: nn.Module) -> None:
        names = list(reader.frame_names[:self.num_frames])
        # PNG is packed already.
        with zipfile.ZipFile(self.masks_zip, 'w', zipfile.ZIP_STORED) as archive:
            archive.writestr('expressions.json', json.dumps(list(self.texts), indent=1))
            archive.writestr(RESULTS, json.dumps(_without_paths(
                results_document(run.out, model, 'png', '.'))))
            for t, name in enumerate(names):
                for e, mask in enumerate(decode_track(run.rles, t, reader.shape)):
                    _, data = cv2.imencode('.png', mask.astype(np.uint8) * 255)
                    archive.writestr(f'{e}/{name}.png', data.tobytes())
        scores = {key: [[None if score != score else round(score, 4)
                         for score in row[:self.num_frames].tolist()] for row in run.out[name]]
                  if name in run.out.trained_scores else [None] * len(self.texts)
                  for key, name in (('expected_iou', 'scores'), ('presence', 'presence'))}
        document = dict(
            fps=self.fps, size=list(reader.shape), frames=names,
            timestamps=None if reader.time_base is None else [
                float(reader.time(t)) for t in range(self.num_frames)],
            expressions=[
                dict(expression=text, key_frame=key, masks=track[:self.num_frames],
                     clicks=run.out.clicks.get(e, []),
                     **{key: rows[e] for key, rows in scores.items()})
                for e, (text, key, track) in enumerate(
                    zip(self.texts, self.key_frames, run.rles))])
        self.masks_json.write_text(json.dumps(document), encoding='utf-8')


def _without_paths(document: dict) -> dict:
    """``results.json`` for somebody whom folders of the server are no business of."""
    for part, key in (('video', 'source'), ('model', 'config'), ('model', 'checkpoint')):
        if document[part][key] is not None:
            document[part][key] = Path(document[part][key]).name
    return document


def _notes(reader: FrameReader, run: SegmentationRun, texts: tuple[str, ...],
           num_frames: int) -> list[str]:
    notes = []
    before = getattr(reader, 'scaled', None)
    if before is not None:
        sizes = [f'{width} x {height}' for height, width in (before, reader.shape)]
        notes.append(f'Frames of {sizes[0]} pixels were scaled down to {sizes[1]}.')
    if run.out.error is not None:
        notes.append(f'The video breaks off; these are its {num_frames} frames.')
    for text, is_seg in zip(texts, run.out.is_seg[:, :num_frames]):
        missing = int((~is_seg).sum())
        if missing:
            notes.append(f'"{text}": the model answered without a mask on {missing} of '
                         f'{num_frames} frames.')
    return notes
