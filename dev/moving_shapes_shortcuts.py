"""Measure how far shortcuts get on a split of MovingShapes.

Prints a Markdown table of J&F in %, one row per kind of expression. Columns:

- everything: all objects of the video at once;
- largest: the object with the largest mean visible area;
- centre blob: the same ellipse on every frame, of the split's mean target area.

``tools/test.py --probe swap still`` tells what a model makes of other words and of one frame.

Example::

    python dev/moving_shapes_shortcuts.py data/moving_shapes/valid_u --out outputs/shortcuts.json
"""

import argparse
import json
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path

import cv2
import numpy as np

from glus_mm.evaluation.functional import boundary_accuracy, region_similarity
from glus_mm.utils.command_line import refuse
from glus_mm.utils.json_file import read_json_object
from glus_mm.utils.masks import decode_rle
from glus_mm.utils.paths import ensure_writable_file

ALL = 'all with a target'
COLUMNS = ('everything', 'largest', 'centre blob')


@dataclass(frozen=True)
class Video:
    """Annotation of one video.

    Attributes:
        video_id: its id.
        frame_names: file stems (T).
        expressions: by id, as ``meta_expressions.json`` has them.
        objects: as ``objects.json`` has them.
        masks: of each object, bool (O, T, H, W).
    """

    video_id: str
    frame_names: list[str]
    expressions: dict[str, dict]
    objects: list[dict]
    masks: np.ndarray

    def target(self, objects: Sequence[int]) -> np.ndarray:
        """Unite some objects, bool (T, H, W)."""
        return self.masks[list(objects)].any(0)

    def predicted(self, folder: str, exp_id: str) -> np.ndarray:
        """Masks of an expression, bool (T, H, W), in ``folder/<video>/<exp>/<frame>.png``.

        Raises:
            FileNotFoundError: a mask is missing.
            ValueError: a file is no image of one channel, or has another size than the video.
        """
        masks, size = [], self.masks.shape[2:]
        for name in self.frame_names:
            path = Path(folder) / self.video_id / exp_id / f'{name}.png'
            if not path.is_file():
                raise FileNotFoundError(f'expected a predicted mask, got nothing there: {path}')
            mask = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
            if mask is None or mask.shape != size:
                got = 'a file that cannot be read' if mask is None else f'shape {mask.shape}'
                raise ValueError(f'expected a mask of shape {size}, got {got}: {path}')
            masks.append(mask != 0)
        return np.stack(masks)


def load_videos(root: str) -> Iterator[Video]:
    """The videos of a split, with all of their objects, those without an expression included.

    Raises:
        OSError: a file is missing.
        ValueError: the files have not the layout of MovingShapes.
    """
    meta, tracks, objects = (read_json_object(Path(root) / f'{name}.json') for name in (
        'meta_expressions', 'mask_dict', 'objects'))
    numbers = count()  # annotation ids count on through the split
    for video_id, video in meta['videos'].items():
        if video_id not in objects or not {'height', 'width'} <= set(video):
            raise ValueError(f'{root}: video {video_id!r}: expected height, width, and an entry of '
                             'objects.json, as tools/dataset_converters/moving_shapes.py writes')
        empty = np.zeros((video['height'], video['width']), dtype=bool)
        masks = [[empty if rle is None else decode_rle(rle) for rle in tracks[str(anno_id)]]
                 for anno_id in islice(numbers, len(objects[video_id]))]
        yield Video(video_id, video['frames'], video['expressions'], objects[video_id],
                    np.array(masks))


def score(gt: np.ndarray, pred: np.ndarray) -> float:
    """J&F in percent of one expression: masks bool (T, H, W), mean over frames."""
    return 50 * float(np.mean([region_similarity(*pair) for pair in zip(gt, pred)])
                      + np.mean([boundary_accuracy(*pair) for pair in zip(gt, pred)]))


def measure(root: str) -> dict:
    """Score the shortcuts on a split.

    Returns:
        'mean_target_share' of the frame; 'per_kind': ``{kind: {column: J&F in %, 'n':
        expressions}}`` with a row for all kinds together, plain means over expressions.

    Raises:
        OSError, ValueError: see :func:`load_videos`; or there is no expression with a target.
    """
    share = [video.target(item['obj_id']).mean() for video in load_videos(root)
             for item in video.expressions.values() if item['obj_id']]
    if not share:
        raise ValueError('expected at least one expression with a target, got none')
    share, found = float(np.mean(share)), defaultdict(list)
    for video in load_videos(root):
        h, w = video.masks.shape[2:]
        y, x = (np.arange(h) + 0.5) / h - 0.5, (np.arange(w) + 0.5) / w - 0.5
        blob = y[:, None]**2 + x[None]**2 <= share / math.pi
        shortcuts = (video.masks.any(0), max(video.masks, key=np.count_nonzero),
                     np.broadcast_to(blob, video.masks.shape[1:]))
        for item in filter(lambda item: item['obj_id'], video.expressions.values()):
            found[item.get('kind') or 'no kind'].append(
                [score(video.target(item['obj_id']), pred) for pred in shortcuts])
    rows = {**{kind: found[kind] for kind in sorted(found)}, ALL: sum(found.values(), [])}
    return {'mean_target_share': share, 'per_kind': {
        kind: dict(zip(COLUMNS, np.mean(scores, 0).tolist()), n=len(scores))
        for kind, scores in rows.items()}}


def main(argv: Sequence[str] | None = None) -> None:
    """Measure what the command line asks for, print the table."""
    parser = argparse.ArgumentParser(description='Measure shortcuts on a split of MovingShapes')
    parser.add_argument('root', metavar='ROOT', help='folder of the split, such as D/valid_u')
    parser.add_argument('--out', metavar='F.json', help='write the figures into this file')
    args = parser.parse_args(argv)
    with refuse(parser):
        out = None if args.out is None else ensure_writable_file(args.out)
        summary = measure(args.root)
    print(f'| J&F in % | n | {" | ".join(COLUMNS)} |\n|---|---:|' + '---:|' * len(COLUMNS))
    for kind, row in summary['per_kind'].items():
        cells = ' | '.join(f'{row[name]:.2f}' for name in COLUMNS)
        print(f'| {kind} | {row["n"]} | {cells} |')
    if out is not None:
        out.write_text(json.dumps(summary, indent=1) + '\n', encoding='utf-8')


if __name__ == '__main__':
    main()
