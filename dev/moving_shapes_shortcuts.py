"""Measure how far shortcuts get on a split of MovingShapes, beside a model.

Prints a Markdown table of J&F in %, one row per kind of expression. Columns:

- model, blank frames: the masks in --pred and --blank-pred, folders that ``tools/test.py --out``
  wrote, the latter from a copy of the split whose frames show nothing;
- everything: all objects of the video at once;
- largest: the object with the largest mean visible area;
- centre blob: the same ellipse on every frame, of the split's mean target area;
- swapped: the mask in --pred for one expression against the target of another one of the same
  video, over all ordered pairs whose targets share no object; the kind is that of the target.

Example::

    python dev/moving_shapes_shortcuts.py data/moving_shapes/valid_u \\
        --pred outputs/masks --blank-pred outputs/masks_blank --out outputs/shortcuts.json
"""

import argparse
import functools
import json
import math
import multiprocessing
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from glus_mm.datasets import MovingShapesDataset
from glus_mm.evaluation.functional import boundary_accuracy, region_similarity
from glus_mm.utils.masks import decode_rle
from glus_mm.utils.paths import ensure_writable_file

ALL = 'all with a target'


@dataclass(frozen=True)
class Video:
    """Annotation of one video.

    Attributes:
        video_id: its id.
        frame_names: file stems (T).
        size: ``(H, W)``.
        expressions: as the data set parses them.
        tracks: for each annotated object, by annotation id, an RLE or None per frame (T).
    """

    video_id: str
    frame_names: tuple[str, ...]
    size: tuple[int, int]
    expressions: list[dict]
    tracks: dict[str, list[dict | None]]

    def target(self, expression: dict, masks: dict[str, np.ndarray]) -> np.ndarray:
        """Unite the objects of an expression, bool (T, H, W)."""
        return np.any([masks[anno_id] for anno_id in expression['anno_ids']], axis=0)


@dataclass
class Scores:
    """J&F in 0..1 of single expressions, or of pairs of them, to be averaged.

    Attributes:
        columns: ``{column: {kind: [J&F]}}``.
        nothing: ``{column: [whether nothing was predicted]}``, expressions without a target.
    """

    columns: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    nothing: dict[str, list[bool]] = field(default_factory=dict)

    def add(self, column: str, kind: str, value: float) -> None:
        """Add the figure of one expression or pair."""
        self.columns.setdefault(column, {}).setdefault(kind, []).append(value)

    def extend(self, other: 'Scores') -> None:
        """Add the figures of another video."""
        for column, by_kind in other.columns.items():
            for kind, values in by_kind.items():
                self.columns.setdefault(column, {}).setdefault(kind, []).extend(values)
        for column, values in other.nothing.items():
            self.nothing.setdefault(column, []).extend(values)


def load_videos(root: str) -> list[Video]:
    """Read the annotation of a split.

    Args:
        root: folder with ``meta_expressions.json`` and ``mask_dict.json``.

    Returns:
        One entry per video, with all of its objects, those without an expression included.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: the files have not the layout of MovingShapes.
    """
    dataset = MovingShapesDataset(data_root=root)
    infos = [dataset.get_data_info(index) for index in range(len(dataset))]
    videos = []
    for info, anno_ids in zip(infos, _objects_by_video(infos, len(dataset.masks))):
        if info['ori_shape'] is None:
            raise ValueError(f'{root}: video {info["video_id"]!r}: expected the keys height and '
                             'width, got none')
        tracks = {}
        for anno_id in anno_ids:
            item = dict(anno_ids=(anno_id, ), video_id=info['video_id'], exp_id='any')
            rles = [dataset.masks.rles(item, t, info['ori_shape'])
                    for t in range(len(info['frame_names']))]
            tracks[anno_id] = [rle[0] if rle else None for rle in rles]
        videos.append(Video(info['video_id'], info['frame_names'], tuple(info['ori_shape']),
                            info['expressions'], tracks))
    return videos


def _objects_by_video(infos: Sequence[dict], num_objects: int) -> list[list[str]]:
    """Annotation ids of each video: they count on through a split, in the order of its videos."""
    starts = []
    for info in infos:
        first = {int(anno) - int(obj) for expression in info['expressions']
                 for anno, obj in zip(expression['anno_ids'], expression['object_ids'])}
        if len(first) != 1:
            raise ValueError(f'video {info["video_id"]!r}: expected annotation ids that count on '
                             f'through the split (anno_id - obj_id the same), got starts '
                             f'{sorted(first)}')
        starts.append(first.pop())
    if starts != sorted(set(starts)) or num_objects <= starts[-1]:
        raise ValueError('expected annotation ids that count on through the split, got videos '
                         f'that start at {starts[:8]}... and {num_objects} objects')
    ends = [*starts[1:], num_objects]
    return [[str(anno) for anno in range(*bounds)] for bounds in zip(starts, ends)]


def decode_tracks(video: Video) -> dict[str, np.ndarray]:
    """Masks of all objects of a video, by annotation id, each bool (T, H, W)."""
    empty = np.zeros(video.size, dtype=bool)
    return {anno_id: np.stack([empty if rle is None else decode_rle(rle) for rle in track])
            for anno_id, track in video.tracks.items()}


def mean_target_share(videos: Sequence[Video]) -> float:
    """Mean share of the frame that targets cover, over expressions and frames."""
    shares = []
    for video in videos:
        masks = decode_tracks(video)
        shares += [float(video.target(expression, masks).mean())
                   for expression in video.expressions if expression['anno_ids']]
    if not shares:
        raise ValueError('expected at least one expression with a target, got none')
    return float(np.mean(shares))


def centre_blob(size: tuple[int, int], share: float) -> np.ndarray:
    """Ellipse in the middle of a frame, in its proportions, that covers ``share`` of it."""
    h, w = size
    y, x = (np.arange(h) + 0.5) / h - 0.5, (np.arange(w) + 0.5) / w - 0.5
    return y[:, None]**2 + x[None]**2 <= share / math.pi


def read_track(folder: str, video: Video, exp_id: str) -> np.ndarray:
    """Read the masks of an expression, bool (T, H, W), from ``folder/<video>/<exp>/<frame>.png``.

    Raises:
        FileNotFoundError: a mask is missing.
        ValueError: a file is no image of one channel, or has another size than the video.
    """
    masks = []
    for name in video.frame_names:
        path = Path(folder) / video.video_id / exp_id / f'{name}.png'
        if not path.is_file():
            raise FileNotFoundError(f'expected a predicted mask, got nothing there: {path}')
        mask = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        if mask is None or mask.shape != video.size:
            got = 'a file that cannot be read' if mask is None else f'shape {mask.shape}'
            raise ValueError(f'expected a mask of shape {video.size}, got {got}: {path}')
        masks.append(mask != 0)
    return np.stack(masks)


def score(gt: np.ndarray, pred: np.ndarray) -> float:
    """J&F in 0..1 of one expression: masks bool (T, H, W), mean over frames."""
    region = np.mean([region_similarity(*pair) for pair in zip(gt, pred)])
    boundary = np.mean([boundary_accuracy(*pair) for pair in zip(gt, pred)])
    return float(region + boundary) / 2


def score_video(video: Video, share: float, folders: dict[str, str]) -> Scores:
    """Score the shortcuts, and masks from folders, on one video.

    Args:
        video: its annotation.
        share: share of the frame that the centre blob covers.
        folders: ``{column: folder with masks}``; 'model' is swapped too.

    Returns:
        The figures of its expressions.
    """
    masks, scores = decode_tracks(video), Scores()
    blob = centre_blob(video.size, share)
    shortcuts = {
        'everything': np.any(list(masks.values()), axis=0),
        'largest': max(masks.values(), key=np.count_nonzero),
        'centre blob': np.broadcast_to(blob, (len(video.frame_names), *video.size)),
    }
    swappable = []
    for expression in video.expressions:
        kind = expression['kind'] or 'no kind'
        preds = {column: read_track(folder, video, expression['exp_id'])
                 for column, folder in folders.items()}
        if not expression['anno_ids']:
            for column, pred in preds.items():
                scores.nothing.setdefault(column, []).append(not pred.any())
            continue
        gt = video.target(expression, masks)
        for column, pred in {**preds, **shortcuts}.items():
            scores.add(column, kind, score(gt, pred))
        if 'model' in preds:
            swappable.append((kind, set(expression['anno_ids']), gt, preds['model']))
    for kind, objects, gt, _ in swappable:
        for _, others, _, pred in swappable:
            if not objects & others:
                scores.add('swapped', kind, score(gt, pred))
    return scores


def summarise(scores: Scores) -> dict:
    """Average the figures.

    Returns:
        'per_kind': ``{kind: {column: J&F in %, 'n': expressions, 'pairs': swapped pairs}}`` with
        a row for all kinds together, plain means over expressions (pairs); 'N-acc': in %, by
        column, where there are masks for expressions without a target.
    """
    counts = scores.columns['everything']
    rows = {kind: {'n': len(counts[kind])} for kind in sorted(counts)}
    rows[ALL] = {'n': sum(map(len, counts.values()))}
    for column, by_kind in scores.columns.items():
        by_kind = {**by_kind, ALL: [value for values in by_kind.values() for value in values]}
        for kind, values in by_kind.items():
            rows[kind][column] = 100 * float(np.mean(values))
            if column == 'swapped':
                rows[kind]['pairs'] = len(values)
    return {'per_kind': rows, 'N-acc': {column: 100 * float(np.mean(values))
                                        for column, values in scores.nothing.items()}}


def format_markdown(summary: dict) -> str:
    """Lay a summary out as a Markdown table; columns that were not asked for are left out."""
    rows = summary['per_kind']
    columns = [column for column in ('n', 'model', 'blank frames', 'everything', 'largest',
                                     'centre blob', 'swapped', 'pairs') if column in rows[ALL]]
    lines = ['| ' + ' | '.join(['J&F in %', *columns]) + ' |',
             '|---|' + '---:|' * len(columns)]
    for kind, row in rows.items():
        cells = [row.get(column, '-') for column in columns]
        cells = [f'{cell:.2f}' if isinstance(cell, float) else str(cell) for cell in cells]
        lines.append('| ' + ' | '.join([kind, *cells]) + ' |')
    lines += [f'\nN-acc of {column}: {value:.2f}' for column, value in summary['N-acc'].items()]
    return '\n'.join(lines)


def measure(root: str, folders: dict[str, str], workers: int = 1) -> dict:
    """Measure a whole split; the result does not depend on ``workers``.

    Args:
        root: folder of the split.
        folders: ``{'model' or 'blank frames': folder with masks}``, either may be missing.
        workers: number of processes.

    Returns:
        What ``summarise`` returns, and 'mean_target_share'.
    """
    videos = load_videos(root)
    share = mean_target_share(videos)
    work = functools.partial(score_video, share=share, folders=folders)
    scores = Scores()
    if workers == 1:
        results = map(work, videos)
        for result in results:
            scores.extend(result)
    else:
        with multiprocessing.get_context('spawn').Pool(workers) as pool:
            for result in pool.imap(work, videos, chunksize=4):
                scores.extend(result)
    return {'mean_target_share': share, **summarise(scores)}


def parse_args(argv: Sequence[str] | None) -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    """Read the command line."""
    parser = argparse.ArgumentParser(description='Measure shortcuts on a split of MovingShapes')
    parser.add_argument('root', metavar='ROOT', help='folder of the split, such as D/valid_u')
    parser.add_argument('--pred', metavar='DIR', help="the model's masks, as test.py --out wrote")
    parser.add_argument('--blank-pred', metavar='DIR', help="the model's masks on blank frames")
    parser.add_argument('--out', metavar='F.json', help='write the figures into this file')
    parser.add_argument('--workers', type=int, default=1, help='processes (default: %(default)s)')
    args = parser.parse_args(argv)
    if args.workers < 1:
        parser.error(f'argument --workers: expected a number >= 1, got {args.workers}')
    return parser, args


def main(argv: Sequence[str] | None = None) -> None:
    """Measure what the command line asks for, print the table."""
    parser, args = parse_args(argv)
    folders = {'model': args.pred, 'blank frames': args.blank_pred}
    folders = {column: folder for column, folder in folders.items() if folder is not None}
    try:
        for folder in folders.values():
            if not Path(folder).is_dir():
                raise FileNotFoundError(f'expected a folder with masks, got none: {folder}')
        out = None if args.out is None else ensure_writable_file(args.out)
        summary = measure(args.root, folders, args.workers)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    print(format_markdown(summary))
    if out is not None:
        out.write_text(json.dumps(summary, indent=1) + '\n', encoding='utf-8')


if __name__ == '__main__':
    main()
