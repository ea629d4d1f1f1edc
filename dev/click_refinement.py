"""What clicks add to texts: J&F before and after 1, 2, 3 clicks of a simulated user.

As in the field of interactive segmentation: the user looks for the frame with the worst mask (the
lowest J) and clicks into the middle of its largest wrong region, on what is missing or off what
is too much. The masks from there on are made anew, then the user looks again. The key frame is
the first one, unless the config's selector chooses others.

Beside J&F of all frames, the gain on the frames after the first click, which the click did not
touch. Intervals are over videos, whose expressions stay together. Needs a data set with masks.

Example::

    python dev/click_refinement.py configs/glus/glus_tiny_moving-shapes.py \\
        checkpoints/glus_tiny_moving-shapes.pth --videos 100
"""

import json
from collections import defaultdict
from pathlib import Path

import cv2
import numpy as np
from mmengine import Config
from point_ceiling import inner_point
from study import load_study, study_parser, test_set, videos_of

from glus_mm.apis import GLUSInferencer, RefinementSession
from glus_mm.evaluation.bootstrap import cluster_mean
from glus_mm.evaluation.functional import boundary_accuracy, region_similarity
from glus_mm.models import GLUS
from glus_mm.utils.command_line import refuse
from glus_mm.utils.masks import decode_rle

Figures = dict[str, list[list[float]]]


def worst_click(masks: list[np.ndarray], truth: list[np.ndarray]
                ) -> tuple[int, tuple[int, int], int] | None:
    """Where a user would click, given masks (T), bool (H, W), and the true ones.

    Returns:
        The frame, the pixel (x, y) and its label; None where every mask is right.
    """
    frame = int(np.argmin([region_similarity(t, m) for t, m in zip(truth, masks)]))
    best: tuple[int, np.ndarray | None] = (0, None)
    # Missing and superfluous pixels are different regions even where they touch.
    for part in (truth[frame] & ~masks[frame], masks[frame] & ~truth[frame]):
        _, regions, stats, _ = cv2.connectedComponentsWithStats(part.astype(np.uint8))
        for i, area in enumerate(stats[1:, cv2.CC_STAT_AREA], 1):
            if area > best[0]:
                best = int(area), regions == i
    if best[1] is None:
        return None
    x, y = inner_point(best[1])
    return frame, (x, y), int(truth[frame][y, x])


def refine(session: RefinementSession, e: int, truth: list[np.ndarray], clicks: int
           ) -> tuple[np.ndarray, int | None]:
    """J&F of each frame before the first and after each click on expression ``e`` of a session.

    Returns:
        (clicks + 1, T), and the frame of the first click.
    """
    rows, first, click = [], None, None
    for number in range(clicks + 1):
        if number and click is None:
            rows.append(rows[-1])
            continue
        masks = list(session.out['masks'][e])
        rows.append([(region_similarity(t, m) + boundary_accuracy(t, m)) / 2
                     for t, m in zip(truth, masks)])
        click = worst_click(masks, truth) if number < clicks else None
        if click is not None:
            frame, point, label = click
            first = frame if first is None else first
            session.refine(e, frame, [point], [label])
    return np.array(rows), first


def measure(model: GLUS, cfg: Config, num_videos: int | None, clicks: int) -> dict[str, Figures]:
    """Click through the test set of a config.

    Returns:
        ``all`` and ``later`` to video to the J&F (clicks + 1) of each expression; ``later`` has
        two figures, before and after the first click.

    Raises:
        ValueError: the data set has no masks.
    """
    inferencer = GLUSInferencer(model)
    figures: dict[str, Figures] = dict(all=defaultdict(list), later=defaultdict(list))
    for video in videos_of(test_set(cfg), num_videos):
        sample, name = video.sample, video.info['video_id']
        if 'gt_rles' not in sample:
            raise ValueError(f'expected a data set with masks, got none for {name}')
        with inferencer.session(video.reader, list(sample.expressions)) as session:
            for e, track in enumerate(sample.gt_rles):
                truth = [decode_rle(rle) for rle in track]
                if not any(mask.any() for mask in truth):
                    continue  # nothing to click on in most of the frames
                rows, first = refine(session, e, truth, clicks)
                figures['all'][name].append(rows.mean(1).tolist())
                if first is not None:
                    forward = first >= session.out['key_frames'][e]
                    later = rows[:2, first + 1:] if forward else rows[:2, :first]
                    if later.shape[1]:
                        figures['later'][name].append(later.mean(1).tolist())
    return figures


def row(label: str, values: Figures, n: int) -> str:
    """A line of the table: the n-th figure of all expressions, and its gain over the first."""
    mean = cluster_mean({v: [100 * r[n] for r in rows] for v, rows in values.items()})
    gain = cluster_mean({v: [100 * (r[n] - r[0]) for r in rows] for v, rows in values.items()})
    interval = '-' if gain.low is None else f'{gain.low:+.2f} to {gain.high:+.2f}'
    return f'| {label} | {mean.expressions} | {mean.mean:.2f} | {gain.mean:+.2f} | {interval} |'


def main() -> None:
    """Measure, print the table."""
    parser = study_parser(__doc__, out='J&F of each expression')
    parser.add_argument('--clicks', type=int, default=3, metavar='N',
                        help='of each expression (default: %(default)s)')
    args = parser.parse_args()
    with refuse(parser):
        cfg, model = load_study(args)
        figures = measure(model, cfg, args.videos, args.clicks)
    if args.out:
        Path(args.out).write_text(json.dumps(figures), encoding='utf-8')
    print('| J&F in % | expressions | mean | gain | 95 % interval |\n|---|---:|---:|---:|---:|')
    for n in range(args.clicks + 1):
        print(row(f'{n} click{"s" * (n != 1)}', figures['all'], n))
    for n, label in enumerate(('later frames, before the first click', 'later frames, after it')):
        print(row(label, figures['later'], n))


if __name__ == '__main__':
    main()
