"""What a run writes for one video: masks in one of four formats, and ``results.json``."""

import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as coco_mask
from torch import nn

from glus_mm.apis.rle_mask_writer import RLEMaskWriter
from glus_mm.engine.run_fingerprint import checkpoint_digest
from glus_mm.models.inference import MaskPrediction
from glus_mm.utils.checkpoint_files import atomic_file
from glus_mm.utils.masks import decode_rle, encode_mask, write_mask_png
from glus_mm.utils.paths import ensure_writable_dir, ensure_writable_file
from glus_mm.version import __version__
from glus_mm.video import FrameReader

FORMATS = ('png', 'rle', 'coco', 'ytvis')
RESULTS = 'results.json'
# Of results.json; a change that readers could trip over raises it.
SCHEMA = 'glus_mm.results/1'


def mask_path(out_dir: Path, video: str, exp_idx: int, frame_name: str) -> Path:
    """Where the mask of an expression on a frame is written.

    Args:
        out_dir: folder of the results.
        video: name of the video, see :func:`video_name`.
        exp_idx: number of the text, from 0.
        frame_name: name of the frame.
    """
    return out_dir / video / str(exp_idx) / f'{frame_name}.png'


def masks_place(video: str, format: str) -> str:
    """Where the masks of a video are, below the folder of the results."""
    return {'png': video, 'rle': f'{video}.jsonl'}.get(format, f'{video}/{format}.json')


class ResultFiles:
    """Write the masks of one video as they come, then what they are; a context manager.

    COCO and YouTube-VIS have one file, written at the end: until then an RLE for each mask is
    held.

    Args:
        out_dir: folder of the results.
        name: of the video.
        reader: its frames.
        texts: (E) expressions.
        format: one of :data:`FORMATS`.

    Raises:
        OSError: a place cannot be written.
        ValueError: masks would overwrite one another.
    """

    def __init__(self, out_dir: Path, name: str, reader: FrameReader, texts: Sequence[str],
                 format: str) -> None:
        self.out_dir, self.name, self.reader, self.format = out_dir, name, reader, format
        self.texts = tuple(texts)
        self._rles: list[list[dict | None]] = []
        self._stack = ExitStack()
        twice = [name for name, count in Counter(reader.frame_names).items() if count > 1]
        if format == 'png' and twice:
            raise ValueError(f'expected frames with different names, as their masks are files of '
                             f'these names, got {twice[0]!r} more than once in {reader.source}')
        ensure_writable_file(out_dir / name / RESULTS).unlink(missing_ok=True)
        if format == 'png':
            for e in range(len(self.texts)):
                ensure_writable_dir(mask_path(out_dir, name, e, reader.frame_names[0]).parent)
            self._write = self._write_png
        elif format == 'rle':
            path = ensure_writable_file(out_dir / masks_place(name, format))
            self._write = self._stack.enter_context(RLEMaskWriter(path, reader.frame_names))
        else:
            ensure_writable_file(out_dir / masks_place(name, format))
            self._rles = [[None] * len(reader) for _ in self.texts]
            self._write = self._hold

    def __call__(self, frame_idx: int, exps: list[int], pred: MaskPrediction) -> None:
        """Write the masks of a frame."""
        self._write(frame_idx, exps, pred)

    def _write_png(self, frame_idx: int, exps: list[int], pred: MaskPrediction) -> None:
        for e, mask in zip(exps, pred.masks.cpu().numpy()):
            write_mask_png(
                mask_path(self.out_dir, self.name, e, self.reader.frame_names[frame_idx]), mask)

    def _hold(self, frame_idx: int, exps: list[int], pred: MaskPrediction) -> None:
        for e, mask in zip(exps, pred.masks.cpu().numpy()):
            self._rles[e][frame_idx] = encode_mask(mask)

    def finish(self, out: dict, model: nn.Module, made: np.ndarray,
               error: str | None = None) -> None:
        """Write what the masks are.

        Args:
            out: what the inferencer returns.
            model: what made them.
            made: bool (E, T), the masks that were made.
            error: why some are missing, if they are.
        """
        document = self._document(out, model, made, error)
        if self._rles:
            write = _coco if self.format == 'coco' else _ytvis
            scores = [text['score'] for text in document['texts']]
            _write_json(self.out_dir / masks_place(self.name, self.format),
                        write(self.name, self.reader, self.texts, self._rles, scores))
        _write_json(self.out_dir / self.name / RESULTS, document)

    def _document(self, out: dict, model: nn.Module, made: np.ndarray,
                  error: str | None) -> dict:
        """``results.json``; docs/inference.md describes it."""
        reader, trained = self.reader, getattr(model, 'trained_scores', ())
        frame_scores, presence = out.get('key_frame_scores'), out.get('presence')
        texts = []
        for e, text in enumerate(self.texts):
            seg = [bool(value) if done else None for value, done in zip(out['is_seg'][e], made[e])]
            texts.append(dict(
                text=text, id=e, masks=str(e) if self.format == 'png' else None,
                key_frame=None if 'key_frames' not in out else int(out['key_frames'][e]),
                clicks=out.get('clicks', {}).get(e, []), seg=seg,
                score=_numbers(out['scores'][e], made[e]) if 'scores' in trained else None,
                presence=_numbers(presence[e], made[e])
                if presence is not None and 'presence' in trained else None,
                key_frame_score=None if frame_scores is None else _numbers(frame_scores[e])))
        height, width = reader.shape
        cfg, checkpoint = getattr(model, 'cfg', None), getattr(model, 'checkpoint', None)
        return dict(
            schema=SCHEMA, glus_mm=__version__, complete=error is None, error=error,
            video=dict(
                name=self.name, source=reader.source, width=width, height=height,
                num_frames=len(reader), fps=reader.fps, frames=list(reader.frame_names),
                timestamps=[_seconds(reader, t) for t in range(len(reader))]
                if reader.time_base else None),
            model=dict(
                type=type(model).__name__, config=getattr(cfg, 'filename', None),
                checkpoint=checkpoint, checkpoint_digest=checkpoint_digest(checkpoint)),
            masks=dict(format=self.format, path=masks_place(self.name, self.format)),
            texts=texts)

    def __enter__(self) -> 'ResultFiles':
        return self

    def __exit__(self, *args: object) -> None:
        self._stack.close()


def open_masks(out_dir: Path, name: str, frame_names: Sequence[str], num_texts: int, format: str
               ) -> Callable[[int], np.ndarray]:
    """Read masks back from the files of a run.

    Args:
        out_dir: folder of the results.
        name: of the video.
        frame_names: (T).
        num_texts: E.
        format: of the files.

    Returns:
        A function that gives the masks of a frame, bool (E, H, W); it raises a
        ``FileNotFoundError`` where one is not there.
    """
    if format == 'png':
        def read(frame_idx: int) -> np.ndarray:
            paths = [mask_path(out_dir, name, e, frame_names[frame_idx]) for e in range(num_texts)]
            return np.stack([cv2.imdecode(np.fromfile(path, dtype=np.uint8),
                                          cv2.IMREAD_GRAYSCALE) > 127 for path in paths])
        return read
    text = (out_dir / masks_place(name, format)).read_text(encoding='utf-8')
    rles: dict[tuple[int, int], dict] = {}
    if format == 'rle':
        for line in map(json.loads, text.splitlines()):
            rles[line['exp'], line['frame']] = dict(size=line['size'], counts=line['counts'])
        return lambda t: np.stack([decode_rle(rles[e, t]) for e in range(num_texts)])
    document = json.loads(text)
    if format == 'ytvis':
        video = document['videos'][0]
        rles = {(entry['category_id'] - 1, t): rle for entry in document['annotations']
                for t, rle in enumerate(entry['segmentations']) if rle is not None}
    else:
        video = document['images'][0]
        rles = {(entry['category_id'] - 1, entry['image_id'] - 1): entry['segmentation']
                for entry in document['annotations']}
    empty = np.zeros((video['height'], video['width']), dtype=bool)
    return lambda t: np.stack([decode_rle(rles[e, t]) if (e, t) in rles else empty
                               for e in range(num_texts)])


def _coco(name: str, reader: FrameReader, texts: Sequence[str],
          rles: Sequence[Sequence[dict | None]], scores: Sequence[list | None]) -> dict:
    """A COCO document in which each frame is an image and each mask that is not empty an
    annotation; ``track_id`` tells what belongs together."""
    height, width = reader.shape
    annotations = []
    for e, track in enumerate(rles):
        for t, rle in enumerate(track):
            area, box = _measures(rle)
            if area:
                entry = dict(id=len(annotations) + 1, image_id=t + 1, video_id=1,
                             category_id=e + 1, track_id=e + 1, segmentation=rle, area=area,
                             bbox=box, iscrowd=0)
                if scores[e] is not None:
                    entry['score'] = scores[e][t]
                annotations.append(entry)
    return dict(
        info=dict(description=f'glus_mm {__version__}'),
        videos=[dict(id=1, name=name, width=width, height=height, length=len(reader))],
        images=[dict(id=t + 1, video_id=1, frame_id=t, file_name=f'{name}/{frame}', width=width,
                     height=height) for t, frame in enumerate(reader.frame_names)],
        categories=[dict(id=e + 1, name=text) for e, text in enumerate(texts)],
        annotations=annotations)


def _ytvis(name: str, reader: FrameReader, texts: Sequence[str],
           rles: Sequence[Sequence[dict | None]], scores: Sequence[list | None]) -> dict:
    """A YouTube-VIS document: one annotation for each text, with its masks over time."""
    height, width = reader.shape
    annotations = []
    for e, track in enumerate(rles):
        measures = [_measures(rle) for rle in track]
        entry = dict(id=e + 1, video_id=1, category_id=e + 1, iscrowd=0, width=width,
                     height=height, length=len(reader),
                     segmentations=[rle if area else None
                                    for rle, (area, _) in zip(track, measures)],
                     areas=[area or None for area, _ in measures],
                     bboxes=[box if area else None for area, box in measures])
        known = [score for score in scores[e] or [] if score is not None]
        if known:
            entry['score'] = sum(known) / len(known)
        annotations.append(entry)
    return dict(
        info=dict(description=f'glus_mm {__version__}'),
        videos=[dict(id=1, name=name, width=width, height=height, length=len(reader),
                     file_names=[f'{name}/{frame}' for frame in reader.frame_names])],
        categories=[dict(id=e + 1, name=text) for e, text in enumerate(texts)],
        annotations=annotations)


def _measures(rle: dict | None) -> tuple[int, list[float] | None]:
    """Area in pixels, and the box as x, y, width and height."""
    if rle is None:
        return 0, None
    packed = dict(rle, counts=rle['counts'].encode('ascii'))
    return int(coco_mask.area(packed)), coco_mask.toBbox(packed).tolist()


def _numbers(values: Sequence[float], there: Sequence[bool] | None = None) -> list[float | None]:
    """Numbers for JSON; None where there is none."""
    return [round(float(value), 6) if math.isfinite(value) and (there is None or there[i])
            else None for i, value in enumerate(values)]


def _seconds(reader: FrameReader, frame_idx: int) -> float | None:
    at = reader.time(frame_idx)
    return None if at is None else round(float(at), 9)


def _write_json(path: Path, document: Any) -> None:
    with atomic_file(path) as part:
        part.write_text(json.dumps(document), encoding='utf-8')
