"""Videos that tell whether a system uses motion and words: written for any system, and scored."""

import json
import os
import shutil
import zlib
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from glus_mm.apis.mask_evaluation.annotated_expressions import (
    AnnotatedExpressions,
    open_expressions,
)
from glus_mm.apis.mask_evaluation.evaluate_masks import MaskEvaluation, evaluate_masks
from glus_mm.apis.mask_evaluation.expression_attributes import object_tracks
from glus_mm.datasets.transforms.frame_sampling import swapped_texts
from glus_mm.evaluation.probe_table import PLAIN, PROBES
from glus_mm.utils.paths import ensure_writable_dir


def write_probes(protocol: str, ann_root: str | PathLike, out: str | PathLike,
                 probes: Sequence[str] = PROBES, copy: bool = False, seed: int = 0,
                 progress: bool = False) -> Path:
    """Write the videos as they are and for each probe, each a data set in the layout of MeViS.

    Every frame of a probe has the truth of the picture that it shows:

    - ``video``: the videos as they are;
    - ``still``: the frame in the middle, as often as there are frames;
    - ``reverse``: the frames from the last one to the first;
    - ``shuffle``: the frames in another order, drawn for each video;
    - ``swap``: each expression has the words of another one of the video with which it shares no
      object, drawn at random, and its own truth. Expressions without a target, or without such
      another one, are left out.

    Args:
        protocol: one that scores expressions; says how the annotation is read.
        ann_root: folder with the annotation and the images.
        out: an empty or new folder. It gets ``<probe>/meta_expressions.json``, ``mask_dict.json``
            and ``JPEGImages/<video>/<frame>.jpg``. A ``/`` in the id of a video becomes ``--``.
        probes: which of :data:`PROBES`.
        copy: copy images instead of linking them.
        seed: of orders and words.
        progress: show a progress bar.

    Raises:
        FileExistsError: the folder holds something.
        OSError: an image or the annotation is missing, or the folder cannot be written.
        ValueError: a probe is unknown, the annotation is not as it should be, or no expression is
            left for a probe.
    """
    unknown = sorted(set(probes) - set(PROBES))
    if unknown or not probes:
        raise ValueError(f'probes: expected some of {", ".join(PROBES)}, got {list(probes)}')
    annotation = open_expressions(protocol, ann_root)
    folder = ensure_writable_dir(out)
    if any(folder.iterdir()):
        raise FileExistsError(f'{folder}: expected an empty folder, got one with files in it')
    names = [PLAIN, *dict.fromkeys(probes)]
    writers = [_ProbeWriter(folder / name, name, copy, seed) for name in names]
    for video in tqdm(annotation.videos, desc='probes', unit='video', disable=not progress):
        tracks = object_tracks(annotation, video)
        for writer in writers:
            writer.add(annotation, video, tracks)
    for writer in writers:
        writer.finish()
    return folder


def score_probes(ann_root: str | PathLike, pred_dir: str | PathLike, workers: int = 1,
                 missing: str = 'error', extra: str = 'warn', pred_format: str = 'png',
                 progress: bool = False) -> dict[str, MaskEvaluation]:
    """Score a system's masks for what :func:`write_probes` wrote.

    Args:
        ann_root: that folder.
        pred_dir: the masks, ``<probe>/<video>/<expression>/<frame>.png`` or what ``pred_format``
            says below ``<probe>``; some probes may be left out, ``video`` may not.
        workers, missing, extra, pred_format, progress: see :func:`evaluate_masks`.

    Returns:
        The figures of each run, that of the videos as they are first.

    Raises:
        OSError: a file or folder is missing or cannot be read.
        ValueError: a file is not as it should be.
        RuntimeError: a process died.
    """
    names = [name for name in (PLAIN, *PROBES) if os.path.isdir(Path(pred_dir, name))]
    if names[:1] != [PLAIN] or len(names) == 1:
        raise FileNotFoundError(f'{pred_dir}: expected masks in the folders {PLAIN!r} and some of '
                                f'{", ".join(map(repr, PROBES))}, got {names or "none of them"}')
    for name in names:
        if not Path(ann_root, name, 'meta_expressions.json').is_file():
            raise FileNotFoundError(f'{Path(ann_root, name)}: expected the annotation of a probe '
                                    'for which there are masks, got nothing there')
    return {name: evaluate_masks('mevis', Path(ann_root, name), Path(pred_dir, name), workers,
                                 missing, extra, pred_format=pred_format, progress=progress)
            for name in names}


class _ProbeWriter:
    """Writes one data set; the masks go to its file video by video."""

    def __init__(self, folder: Path, probe: str, copy: bool, seed: int) -> None:
        self.folder, self.probe, self.copy, self.seed = folder, probe, copy, seed
        self.meta: dict[str, dict] = {}
        self.number = 0
        (folder / 'JPEGImages').mkdir(parents=True)
        self.masks = open(folder / 'mask_dict.json', 'w', encoding='utf-8')  # noqa: SIM115
        self.masks.write('{')

    def add(self, annotation: AnnotatedExpressions, video: dict,
            tracks: dict[str, list[dict | None]]) -> None:
        rng = np.random.default_rng([self.seed, zlib.crc32(video['video_id'].encode())])
        order = _order(self.probe, len(video['frame_names']), rng)
        texts = {item['exp_id']: item['exp'] for item in video['expressions']}
        if self.probe == 'swap':
            texts = swapped_texts(video['expressions'], rng)
        if not texts:
            return
        anno_ids = {}
        for object_id, track in tracks.items():
            anno_ids[object_id] = self.number
            shown = [track[t] and dict(track[t], counts=track[t]['counts'].decode('ascii'))
                     for t in order]
            self.masks.write(f'{"," * (self.number > 0)}\n"{self.number}": {json.dumps(shown)}')
            self.number += 1
        video_id = video['video_id'].replace('/', '--')
        entry: dict[str, Any] = {'expressions': {
            item['exp_id']: dict(
                exp=texts[item['exp_id']],
                obj_id=[int(i) if i.isdecimal() else i for i in item['object_ids']],
                anno_id=[anno_ids[i] for i in item['object_ids']],
                **({} if item['kind'] is None else {'kind': item['kind']}))
            for item in video['expressions'] if item['exp_id'] in texts}}
        size = annotation.size(video)
        if size is not None:
            entry.update(height=size[0], width=size[1])
        self.meta[video_id] = dict(entry, frames=list(video['frame_names']))
        folder = self.folder / 'JPEGImages' / video_id
        folder.mkdir()
        for name, t in zip(video['frame_names'], order):
            source = Path(os.path.abspath(video['img_paths'][t]))
            if not source.is_file():
                raise FileNotFoundError(f'{source}: expected the image of video '
                                        f'{video["video_id"]!r}, frame {video["frame_names"][t]!r},'
                                        ' got nothing there')
            target = folder / f'{name}{source.suffix}'
            if self.copy:
                shutil.copyfile(source, target)
            else:
                target.symlink_to(source)


    def finish(self) -> None:
        self.masks.write('\n}\n')
        self.masks.close()
        if not self.meta:
            raise ValueError(f'{self.probe}: expected expressions of one video with different '
                             'targets, whose words can be swapped, got none')
        (self.folder / 'meta_expressions.json').write_text(
            json.dumps({'videos': self.meta}), encoding='utf-8')


def _order(probe: str, number: int, rng: np.random.Generator) -> list[int]:
    """Positions of the frames that a probe shows."""
    frames = list(range(number))
    if probe == 'still':
        return [number // 2] * number
    if probe == 'reverse':
        return frames[::-1]
    while probe == 'shuffle' and number > 1 and frames == list(range(number)):
        frames = rng.permutation(number).tolist()
    return frames
