"""What a run leaves: files to look at and to download."""

import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from torch import nn

from glus_mm.apis.result_files import RESULTS, results_document
from glus_mm.video import FrameReader
from glus_mm.visualization import OverlayVideoWriter
from web_parts.run import SegmentationRun, decode_track

_JPEG_QUALITY = 90
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
