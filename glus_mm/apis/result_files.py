"""What a run writes for one video: masks in one of four formats, and ``results.json``."""

import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import numpy as np
from pycocotools import mask as coco_mask
from torch import nn

from glus_mm.models.inference import MaskPrediction
from glus_mm.utils.checkpoint_files import checkpoint_digest
from glus_mm.utils.json_file import write_json
from glus_mm.utils.masks import decode_rle, encode_mask, read_mask_png, write_mask_png
from glus_mm.utils.paths import ensure_writable_dir, ensure_writable_file
from glus_mm.version import __version__
from glus_mm.video import FrameReader

if TYPE_CHECKING:
    from glus_mm.apis.segmentation import Segmentation

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


def masks_path(video: str, format: str) -> str:
    """Where the masks of a video are, below the folder of the results."""
    return {'png': video, 'rle': f'{video}.jsonl'}.get(format, f'{video}/{format}.json')


class ResultFiles(AbstractContextManager['ResultFiles']):
    """Write the masks of one video as they come, then what they are; a context manager.

    COCO and YouTube-VIS have one file, written at the end: until then an RLE for each mask is
    held. ``'rle'`` is a line of JSON for each mask, ``{"frame": 3, "name": "00003", "exp": 0,
    "size": [H, W], "counts": "...", "score": 0.93}``: ``size`` and ``counts`` are COCO's RLE,
    ``exp`` counts the texts. Lines come in the order of the work, which with a key frame in the
    middle is not that of the frames.

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
        self._file: TextIO | None = None
        twice = [name for name, count in Counter(reader.frame_names).items() if count > 1]
        if format == 'png' and twice:
            raise ValueError(f'expected frames with different names, as their masks are files of '
                             f'these names, got {twice[0]!r} more than once in {reader.source}')
        ensure_writable_file(out_dir / name / RESULTS)
        remove_results(out_dir, name, len(self.texts))
        if format == 'png':
            for e in range(len(self.texts)):
                ensure_writable_dir(mask_path(out_dir, name, e, reader.frame_names[0]).parent)
            return
        path = ensure_writable_file(out_dir / masks_path(name, format))
        if format == 'rle':
            # Line by line, so that what was made is there whatever ends the process.
            self._file = open(path, 'w', encoding='utf-8', buffering=1)  # noqa: SIM115
        else:
            self._rles = [[None] * len(reader) for _ in self.texts]

    def __call__(self, frame_idx: int, exps: list[int], pred: MaskPrediction) -> None:
        """Write the masks of a frame."""
        frame = self.reader.frame_names[frame_idx]
        for i, (e, mask) in enumerate(zip(exps, pred.masks.cpu().numpy())):
            if self._file is not None:
                line = dict(frame=frame_idx, name=frame, exp=e, **encode_mask(mask),
                            score=float(pred.scores[i]))
                self._file.write(json.dumps(line) + '\n')
            elif self._rles:
                self._rles[e][frame_idx] = encode_mask(mask)
            else:
                write_mask_png(mask_path(self.out_dir, self.name, e, frame), mask)

    def finish(self, out: 'Segmentation', model: nn.Module) -> None:
        """Write what the masks are."""
        if self._rles:
            write = coco_document if self.format == 'coco' else _ytvis
            write_json(self.out_dir / masks_path(self.name, self.format), write(out, self._rles),
                       indent=None)
        write_results(self.out_dir, out, model, self.format)

    def __exit__(self, *args: object) -> None:
        if self._file is not None:
            self._file.close()


def remove_results(out_dir: Path, name: str, num_texts: int) -> None:
    """Remove what ``results.json`` says of an earlier run, and the PNG masks that it names.

    Those of its other texts or frames would pass for masks of the run that begins.

    Args:
        out_dir: folder of the results.
        name: of the video.
        num_texts: of the run that begins, whose folders stay.
    """
    results = out_dir / name / RESULTS
    try:
        document = json.loads(results.read_text(encoding='utf-8'))
        is_png = document['schema'] == SCHEMA and document['masks']['format'] == 'png'
        texts, frames = len(document['texts']), [str(f) for f in document['video']['frames']]
    except (OSError, ValueError, KeyError, TypeError):
        is_png = False  # a run's that was killed, or not ours
    if is_png:
        for e in range(texts):
            for frame in frames:
                if Path(frame).name == frame:
                    mask_path(out_dir, name, e, frame).unlink(missing_ok=True)
            if e >= num_texts:
                with suppress(OSError):  # there is something else in it
                    (out_dir / name / str(e)).rmdir()
    results.unlink(missing_ok=True)


def results_document(out: 'Segmentation', model: nn.Module, format: str, place: str) -> dict:
    """``results.json``: what the masks are, what made them, and where they lie.

    Args:
        out: of all frames.
        model: what made them.
        format: of the masks.
        place: where they are, relative to the folder of the results.
    """
    cfg, checkpoint = getattr(model, 'cfg', None), getattr(model, 'checkpoint', None)
    document = out.to_dict()
    document.update(
        model=dict(
            type=type(model).__name__, config=getattr(cfg, 'filename', None),
            checkpoint=checkpoint, checkpoint_digest=checkpoint_digest(checkpoint)),
        masks=dict(format=format, path=place))
    for text in document['texts'] if format == 'png' else ():
        text['masks'] = str(text['id'])
    return document


def write_results(out_dir: Path, out: 'Segmentation', model: nn.Module, format: str) -> None:
    """Write ``results.json``, see :func:`results_document`, into the folder of the results."""
    document = results_document(out, model, format, masks_path(out.name, format))
    write_json(out_dir / out.name / RESULTS, document, indent=None)


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
        ``FileNotFoundError`` where one is not there, a ``ValueError`` where one is damaged.
    """
    if format == 'png':
        def read(frame_idx: int) -> np.ndarray:
            paths = [mask_path(out_dir, name, e, frame_names[frame_idx]) for e in range(num_texts)]
            return np.stack([read_mask_png(path, f'text {e}, frame {frame_idx}') > 127
                             for e, path in enumerate(paths)])
        return read
    text = (out_dir / masks_path(name, format)).read_text(encoding='utf-8')
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


def coco_document(out: 'Segmentation', rles: Sequence[Sequence[dict | None]]) -> dict:
    """A COCO document in which each frame is an image and each mask that is not empty an
    annotation; ``track_id`` tells what belongs together.

    Args:
        out: says what the masks are.
        rles: (E)(T) COCO RLEs.
    """
    annotations: list[dict] = []
    for e, track in enumerate(_tracks(out, rles)):
        for t, (rle, area, box, score) in enumerate(track):
            if area:
                annotations.append(dict(
                    id=len(annotations) + 1, image_id=t + 1, video_id=1, category_id=e + 1,
                    track_id=e + 1, segmentation=rle, area=area, bbox=box, iscrowd=0,
                    **({} if score is None else dict(score=score))))
    height, width = out.size
    return dict(
        _head(out),
        images=[dict(id=t + 1, video_id=1, frame_id=t, file_name=f'{out.name}/{frame}',
                     width=width, height=height) for t, frame in enumerate(out.frame_names)],
        annotations=annotations)


def _ytvis(out: 'Segmentation', rles: Sequence[Sequence[dict | None]]) -> dict:
    """A YouTube-VIS document: one annotation for each text, with its masks over time."""
    height, width = out.size
    annotations = []
    for e, track in enumerate(_tracks(out, rles)):
        known = [score for *_, score in track if score is not None]
        annotations.append(dict(
            id=e + 1, video_id=1, category_id=e + 1, iscrowd=0, width=width, height=height,
            length=len(out), segmentations=[rle if area else None for rle, area, *_ in track],
            areas=[area or None for _, area, *_ in track],
            bboxes=[box if area else None for _, area, box, _ in track],
            **(dict(score=sum(known) / len(known)) if known else {})))
    document = dict(_head(out), annotations=annotations)
    document['videos'][0]['file_names'] = [f'{out.name}/{frame}' for frame in out.frame_names]
    return document


def _head(out: 'Segmentation') -> dict:
    """What both kinds of documents begin with."""
    height, width = out.size
    return dict(
        info=dict(description=f'glus_mm {__version__}'),
        videos=[dict(id=1, name=out.name, width=width, height=height, length=len(out))],
        categories=[dict(id=e + 1, name=text) for e, text in enumerate(out.texts)])


def _tracks(out: 'Segmentation', rles: Sequence[Sequence[dict | None]]) -> Iterator[list[tuple]]:
    """Of each text by frame: the RLE, its area in pixels, its box as x, y, width and height, and
    the score of a model that was trained to give some."""
    for track, scores, made in zip(rles, out.scores, out.made):
        known = numbers(scores, made) if 'scores' in out.trained_scores else [None] * len(track)
        packed = [rle and dict(rle, counts=rle['counts'].encode('ascii')) for rle in track]
        yield [(rle, int(coco_mask.area(mask)) if mask else 0,
                coco_mask.toBbox(mask).tolist() if mask else None, score)
               for rle, mask, score in zip(track, packed, known)]


def numbers(values: Sequence[float] | np.ndarray, there: Sequence[bool] | np.ndarray | None = None
            ) -> list[float | None]:
    """Numbers for JSON; None where there is none.

    Args:
        values: (T).
        there: (T), which of them count; all by default.
    """
    return [round(float(value), 6) if math.isfinite(value) and (there is None or there[i])
            else None for i, value in enumerate(values)]
