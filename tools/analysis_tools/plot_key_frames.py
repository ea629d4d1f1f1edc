"""Draw a video's timeline: predicted scores and true IoU of each frame, with thumbnails.

Each expression has a plot over the frames and, below it, the frames with its true masks. The key
frame (highest score) and the frame with the best IoU are marked, unless all frames are equal.

Examples:
    python tools/analysis_tools/plot_key_frames.py \\
        configs/selectors/key-frame-selector_tiny_moving-shapes.py \\
        --scores work_dirs/key_frames/moving_shapes_valid_u/scores.json \\
        --ious work_dirs/frame_ious/moving_shapes_valid_u.json \\
        --videos valid_u_00000 --out-dir plots
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from mmengine.registry import DefaultScope

from glus_mm.registry import DATASETS, SCOPE
from glus_mm.structures import RefVOSDataSample
from glus_mm.utils.command_line import read_config, refuse
from glus_mm.utils.key_frames import (
    MissingEntryError,
    ScoreFile,
    ScoreFolder,
    best_frame,
    open_scores,
)
from glus_mm.utils.masks import decode_rle
from glus_mm.utils.paths import ensure_writable_dir
from glus_mm.video import FrameReader
from glus_mm.visualization import RefVOSLocalVisualizer

SCORE, IOU, GREY = '#d55e00', '#0072b2', '#777777'
MAX_THUMBNAILS = 16
PIPELINE = [dict(type='SampleContextQueryFrames', num_context=0, test_mode=True),
            dict(type='OpenFrameReader'), dict(type='LoadRefVOSGroundTruth'),
            dict(type='PackRefVOSInputs')]


@dataclass
class Row:
    """What is drawn of one expression.

    Attributes:
        title: its text.
        scores: (T) predicted, nan where there is none; None without scores.
        ious: (T) true; None without them.
        thumbnails: uint8 (h, w, 3) of the frames at ``frames``.
        frames: 0-based positions.
    """

    title: str
    scores: np.ndarray | None
    ious: np.ndarray | None
    thumbnails: list[np.ndarray]
    frames: list[int]


def plot_rows(rows: Sequence[Row], frame_names: Sequence[str], title: str) -> Figure:
    """Draw the expressions of a video below one another.

    Args:
        rows: the expressions.
        frame_names: (T) names of the frames.
        title: of the figure.
    """
    figure = Figure(figsize=(14, 0.6 + 2.9 * len(rows)), dpi=100, layout='constrained')
    figure.suptitle(title, fontsize=12)
    grid = figure.add_gridspec(2 * len(rows), 1, height_ratios=[1.7, 1.2] * len(rows))
    for i, row in enumerate(rows):
        curves = figure.add_subplot(grid[2 * i])
        _draw_curves(curves, row, frame_names, legend=i == 0)
        _draw_thumbnails(figure.add_subplot(grid[2 * i + 1]), row, frame_names)
    return figure


def _draw_curves(axes: Axes, row: Row, frame_names: Sequence[str], legend: bool) -> None:
    length = len(frame_names)
    for values, color, name, mark, place in (
            (row.ious, IOU, 'true IoU', 'best IoU', 1),
            (row.scores, SCORE, 'score', 'key frame', 0)):
        if values is None:
            continue
        axes.plot(range(length), values, color=color, marker='o', markersize=3, label=name)
        if _says_something(values):
            axes.axvline(best_frame(values), color=color, linestyle=(0, (4, 2 + 2 * place)),
                         linewidth=1.4, label=mark)
    axes.set_title(row.title, loc='left', fontsize=10)
    axes.set_xlim(-0.5, length - 0.5)
    ticks = np.unique(np.linspace(0, length - 1, min(length, MAX_THUMBNAILS)).round().astype(int))
    axes.set_xticks(ticks, [frame_names[t] for t in ticks], fontsize=8)
    low, high = axes.get_ylim()
    axes.set_ylim(min(low, -0.05), max(high, 1.05))
    axes.grid(alpha=0.25)
    if legend:
        axes.legend(loc='upper right', ncols=4, fontsize=8, framealpha=0.9)


def _draw_thumbnails(axes: Axes, row: Row, frame_names: Sequence[str]) -> None:
    """Thumbnails over the whole width; at their place in time where every frame has one."""
    slot = len(frame_names) / len(row.frames)
    marks = [(best_frame(values), color) for values, color in
             ((row.ious, IOU), (row.scores, SCORE))
             if values is not None and _says_something(values)]
    for i, (frame, image) in enumerate(zip(row.frames, row.thumbnails)):
        left = -0.5 + i * slot
        axes.imshow(image, extent=(left + 0.04 * slot, left + 0.96 * slot, 0, 1), aspect='auto')
        colors = [color for position, color in marks if position == frame]
        for k, color in enumerate(colors):
            inset = 0.015 + 0.03 * k
            axes.add_patch(Rectangle(
                (left + (0.04 + inset) * slot, inset), (0.92 - 2 * inset) * slot, 1 - 2 * inset,
                fill=False, edgecolor=color, linewidth=3))
        axes.text(left + slot / 2, -0.04, frame_names[frame], ha='center', va='top', fontsize=7,
                  color=colors[0] if colors else GREY)
    axes.set_xlim(-0.5, len(frame_names) - 0.5)
    axes.set_ylim(-0.12, 1)
    axes.axis('off')


def _says_something(values: np.ndarray) -> bool:
    """Whether one frame is better than another; where all are equal none is marked."""
    known = values[np.isfinite(values)]
    return len(known) > 0 and (len(known) < len(values) or np.ptp(known) > 0)


def make_rows(sample: RefVOSDataSample, reader: FrameReader, exp_ids: Sequence[str] | None,
              sources: dict, max_rows: int) -> list[Row]:
    """Look up and draw what is shown of a video.

    Args:
        sample: the video, with ``gt_rles`` where there are masks.
        reader: its frames.
        exp_ids: which expressions; None for the first ``max_rows``.
        sources: ``scores`` and ``ious``, readers of files or None.
        max_rows: number of expressions where none are named.

    Raises:
        ValueError: the video has no such expression, or a file is that of another data set.
    """
    unknown = [exp for exp in exp_ids or () if exp not in sample.exp_ids]
    if unknown:
        raise ValueError(f'video {sample.video_id!r}: expected expressions among '
                         f'{list(sample.exp_ids)}, got {unknown}')
    rows = []
    for exp_id in exp_ids or sample.exp_ids[:max_rows]:
        e = list(sample.exp_ids).index(exp_id)
        values = {name: _look_up(source, sample, exp_id) for name, source in sources.items()}
        frames = _chosen(len(reader), [v for v in values.values() if v is not None])
        kind = f'  [{sample.kinds[e]}]' if sample.kinds[e] else ''
        rows.append(Row(f'{exp_id}: {sample.expressions[e]}{kind}', values['scores'],
                        values['ious'], [_thumbnail(sample, reader, e, t) for t in frames], frames))
    return rows


def _look_up(source: ScoreFile | ScoreFolder | None, sample: RefVOSDataSample,
             exp_id: str) -> np.ndarray | None:
    if source is None:
        return None
    try:
        return source.get(sample.dataset, sample.video_id, exp_id, sample.frame_names)
    except MissingEntryError:
        return None


def _chosen(length: int, values: Sequence[np.ndarray]) -> list[int]:
    """All frames of a short video; evenly spread ones of a long one, marked frames among them."""
    if length <= MAX_THUMBNAILS:
        return list(range(length))
    marked = {best_frame(v) for v in values if _says_something(v)}
    spread = np.linspace(0, length - 1, MAX_THUMBNAILS - len(marked)).round().astype(int)
    return sorted(marked | set(spread.tolist()))


def _thumbnail(sample: RefVOSDataSample, reader: FrameReader, exp: int, frame: int) -> np.ndarray:
    image = reader.read(frame)
    masks = np.zeros((0, *image.shape[:2]), dtype=bool)
    if 'gt_rles' in sample:
        masks = decode_rle(sample.gt_rles[exp][frame])[None]
    visualizer = RefVOSLocalVisualizer(min_width=160)
    return visualizer.draw_frame(image, masks, [''] * len(masks), legend=False)


def main() -> None:
    """Draw a PNG for each video."""
    parser = argparse.ArgumentParser(description='Plot scores and IoU of the frames of videos')
    parser.add_argument('config', metavar='CONFIG', help='its test set has the videos')
    parser.add_argument('--scores', metavar='F', help='scores.json of KeyFrameMetric')
    parser.add_argument('--ious', metavar='F', help='file of FrameIoUMetric')
    parser.add_argument('--videos', nargs='+', metavar='V', help='ids (default: the first one)')
    parser.add_argument('--exps', nargs='+', metavar='E', help='ids (default: the first ones)')
    parser.add_argument('--max-exps', type=int, default=4, help='without --exps (%(default)s)')
    parser.add_argument('--out-dir', default='outputs/key_frames', help='(%(default)s)')
    args = parser.parse_args()
    if args.scores is None and args.ious is None:
        parser.error('expected --scores, --ious or both')
    with refuse(parser):
        cfg = read_config(args.config)
        out_dir = ensure_writable_dir(args.out_dir)
        sources = {name: path and open_scores(path)
                   for name, path in (('scores', args.scores), ('ious', args.ious))}
        with DefaultScope.overwrite_default_scope(SCOPE):
            dataset = DATASETS.build(dict(cfg.test_dataloader.dataset, pipeline=PIPELINE))
        places = {dataset.get_data_info(i)['video_id']: i for i in range(len(dataset))}
        for video_id in args.videos or list(places)[:1]:
            if video_id not in places:
                raise ValueError(f'the test set of {args.config} has no video {video_id!r}, only '
                                 f'{len(places)} others such as {next(iter(places))!r}')
            item = dataset[places[video_id]]
            rows = make_rows(item['data_samples'], item['inputs']['reader'], args.exps, sources,
                             args.max_exps)
            path = out_dir / f'{video_id.replace("/", "_")}.png'
            plot_rows(rows, item['data_samples'].frame_names, video_id).savefig(path)
            print(f'wrote {path}')


if __name__ == '__main__':
    main()
