"""Measure how far shortcuts get on a split of MovingShapes, beside a model.

Prints a Markdown table of J&F in %, one row per kind of expression. Columns:

- model, blank frames: the masks in --pred and --blank-pred, folders that ``tools/test.py --out``
  wrote, the latter from a copy of the split whose frames show nothing, which --blank makes;
- everything: all objects of the video at once;
- largest: the object with the largest mean visible area;
- centre blob: the same ellipse on every frame, of the split's mean target area;
- swapped: the mask in --pred for one expression against the target of another one of the same
  video, over all ordered pairs whose targets share no object; the kind is that of the target.

Example::

    python dev/moving_shapes_shortcuts.py data/moving_shapes/valid_u --blank data/blank/valid_u
    python dev/moving_shapes_shortcuts.py data/moving_shapes/valid_u \\
        --pred outputs/masks --blank-pred outputs/masks_blank --out outputs/shortcuts.json
"""

import argparse
import json
import math
import shutil
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path

import cv2
import numpy as np

from glus_mm.evaluation.functional import boundary_accuracy, region_similarity
from glus_mm.utils.command_line import refuse
from glus_mm.utils.image import read_image
from glus_mm.utils.json_file import read_json_object
from glus_mm.utils.masks import decode_rle
from glus_mm.utils.paths import ensure_writable_dir, ensure_writable_file

ALL = 'all with a target'
COLUMNS = ('n', 'model', 'blank frames', 'everything', 'largest', 'centre blob', 'swapped', 'pairs')
GREY = 128


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


def measure(root: str, folders: dict[str, str]) -> dict:
    """Score the shortcuts, and masks from folders, on a split.

    Args:
        root: folder of the split.
        folders: ``{'model' or 'blank frames': folder with masks}``, either may be missing; the
            model's masks are swapped too.

    Returns:
        'mean_target_share' of the frame; 'per_kind': ``{kind: {column: J&F in %, 'n':
        expressions, 'pairs': swapped pairs}}`` with a row for all kinds together, plain means over
        expressions (pairs); 'N-acc': in %, by column, for expressions without a target.

    Raises:
        OSError, ValueError: see :func:`load_videos` and :meth:`Video.predicted`.
    """
    share = [video.target(item['obj_id']).mean() for video in load_videos(root)
             for item in video.expressions.values() if item['obj_id']]
    if not share:
        raise ValueError('expected at least one expression with a target, got none')
    share, nothing = float(np.mean(share)), defaultdict(list)
    values: dict[str, dict[str, list]] = defaultdict(lambda: defaultdict(list))
    for video in load_videos(root):
        h, w = video.masks.shape[2:]
        y, x = (np.arange(h) + 0.5) / h - 0.5, (np.arange(w) + 0.5) / w - 0.5
        blob = y[:, None]**2 + x[None]**2 <= share / math.pi
        shortcuts = {
            'everything': video.masks.any(0),
            'largest': max(video.masks, key=np.count_nonzero),
            'centre blob': np.broadcast_to(blob, video.masks.shape[1:])}
        found = []
        for exp_id, item in video.expressions.items():
            preds = {name: video.predicted(folder, exp_id) for name, folder in folders.items()}
            if not item['obj_id']:
                for name, pred in preds.items():
                    nothing[name].append(not pred.any())
                continue
            gt = video.target(item['obj_id'])
            found.append((item, gt, preds.get('model')))
            for name, pred in {**preds, **shortcuts}.items():
                values[item.get('kind') or 'no kind'][name].append(score(gt, pred))
        for item, gt, own in found:
            for other, _, pred in found:
                if own is not None and not set(item['obj_id']) & set(other['obj_id']):
                    values[item.get('kind') or 'no kind']['swapped'].append(score(gt, pred))
    kinds = {kind: values[kind] for kind in sorted(values)}
    kinds[ALL] = {name: [value for kind in values.values() for value in kind[name]]
                  for name in {name for kind in values.values() for name in kind}}
    rows = {kind: {name: float(np.mean(figures)) for name, figures in row.items() if figures}
            | dict(n=len(row['everything'])) for kind, row in kinds.items()}
    for kind, row in kinds.items():
        if row.get('swapped'):
            rows[kind]['pairs'] = len(row['swapped'])
    return {'mean_target_share': share, 'per_kind': rows,
            'N-acc': {name: 100 * float(np.mean(found)) for name, found in nothing.items()}}


def format_markdown(summary: dict) -> str:
    """Lay a summary out as a Markdown table; columns that were not asked for are left out."""
    rows = summary['per_kind']
    columns = [column for column in COLUMNS if column in rows[ALL]]
    lines = ['| ' + ' | '.join(['J&F in %', *columns]) + ' |',
             '|---|' + '---:|' * len(columns)]
    for kind, row in rows.items():
        cells = [row.get(column, '-') for column in columns]
        cells = [f'{cell:.2f}' if isinstance(cell, float) else str(cell) for cell in cells]
        lines.append('| ' + ' | '.join([kind, *cells]) + ' |')
    lines += [f'\nN-acc of {column}: {value:.2f}' for column, value in summary['N-acc'].items()]
    return '\n'.join(lines)


def write_blank(root: Path, out: Path) -> int:
    """Copy a split with grey frames; returns their number."""
    for name in ('meta_expressions.json', 'mask_dict.json'):
        shutil.copyfile(root / name, out / name)
    images = sorted((root / 'JPEGImages').glob('*/*.jpg'))
    for path in images:
        target = out / path.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(target), np.full_like(read_image(path), GREY))
    return len(images)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure what the command line asks for, print the table."""
    parser = argparse.ArgumentParser(description='Measure shortcuts on a split of MovingShapes')
    parser.add_argument('root', metavar='ROOT', help='folder of the split, such as D/valid_u')
    parser.add_argument('--pred', metavar='DIR', help="the model's masks, as test.py --out wrote")
    parser.add_argument('--blank-pred', metavar='DIR', help="the model's masks on blank frames")
    parser.add_argument('--blank', metavar='DIR',
                        help='only write a copy of the split with blank frames, for test.py')
    parser.add_argument('--out', metavar='F.json', help='write the figures into this file')
    args = parser.parse_args(argv)
    folders = {name: folder for name, folder in (('model', args.pred),
                                                 ('blank frames', args.blank_pred)) if folder}
    with refuse(parser):
        if args.blank is not None:
            number = write_blank(Path(args.root), ensure_writable_dir(args.blank))
            print(f'wrote {number} blank frames to {args.blank}')
            return
        out = None if args.out is None else ensure_writable_file(args.out)
        summary = measure(args.root, folders)
    print(format_markdown(summary))
    if out is not None:
        out.write_text(json.dumps(summary, indent=1) + '\n', encoding='utf-8')


if __name__ == '__main__':
    main()
