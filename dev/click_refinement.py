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

import argparse
import json
from collections import defaultdict
from pathlib import Path

import cv2
import numpy as np
from mmengine.config import Config
from mmengine.registry import DefaultScope
from point_ceiling import inner_point

from glus_mm.apis import GLUSInferencer, RefinementSession, init_model
from glus_mm.evaluation.bootstrap import cluster_mean
from glus_mm.evaluation.functional import boundary_accuracy, region_similarity
from glus_mm.registry import DATASETS, SCOPE
from glus_mm.utils.command_line import read_config
from glus_mm.utils.config_input import ConfigOptions
from glus_mm.utils.masks import decode_rle


def worst_click(masks: list[np.ndarray], truth: list[np.ndarray]
                ) -> tuple[int, tuple[int, int], int] | None:
    """Where a user would click.

    Args:
        masks: (T) bool (H, W).
        truth: (T) likewise.

    Returns:
        The frame, the pixel (x, y) and its label; None where every mask is right.
    """
    frame = int(np.argmin([region_similarity(t, m) for t, m in zip(truth, masks)]))
    wrong = masks[frame] ^ truth[frame]
    if not wrong.any():
        return None
    # Missing and superfluous pixels are different regions even where they touch.
    best: tuple[int, np.ndarray] = (0, wrong)
    for part in (wrong & truth[frame], wrong & masks[frame]):
        _, regions, stats, _ = cv2.connectedComponentsWithStats(part.astype(np.uint8))
        for i, area in enumerate(stats[1:, cv2.CC_STAT_AREA], 1):
            if area > best[0]:
                best = int(area), regions == i
    x, y = inner_point(best[1])
    return frame, (x, y), int(truth[frame][y, x])


def refine(session: RefinementSession, e: int, truth: list[np.ndarray], clicks: int
           ) -> tuple[np.ndarray, int | None]:
    """J&F of each frame after each click.

    Args:
        session: of the video.
        e: number of the expression.
        truth: (T) bool (H, W).
        clicks: how many.

    Returns:
        (clicks + 1, T) with that before the first click, and the frame of the first click.
    """
    def scores(masks: list[np.ndarray]) -> list[float]:
        return [(region_similarity(t, m) + boundary_accuracy(t, m)) / 2
                for t, m in zip(truth, masks)]

    masks, first = list(session.out['masks'][e]), None
    rows = [scores(masks)]
    for _ in range(clicks):
        click = worst_click(masks, truth)
        if click is not None:
            frame, point, label = click
            first = frame if first is None else first
            session.refine(e, frame, [point], [label])
            masks = list(session.out['masks'][e])
        rows.append(scores(masks) if click is not None else rows[-1])
    return np.array(rows), first


def measure(cfg: Config, checkpoint: str, device: str, num_videos: int | None, clicks: int
            ) -> dict[str, dict[str, list[list[float]]]]:
    """Click through the test set of a config.

    Args:
        cfg: the config.
        checkpoint: weights.
        device: where the model runs.
        num_videos: only so many.
        clicks: of each expression.

    Returns:
        ``all`` and ``later`` to video to the J&F (clicks + 1) of each expression; ``later`` has
        two figures, before and after the first click.

    Raises:
        ValueError: the data set has no masks.
    """
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope') or SCOPE):
        dataset = DATASETS.build(cfg.test_dataloader.dataset)
    inferencer = GLUSInferencer(init_model(cfg, checkpoint, device))
    figures: dict[str, dict[str, list]] = dict(all=defaultdict(list), later=defaultdict(list))
    for i in range(min(len(dataset), num_videos or len(dataset))):
        item, info = dataset[i], dataset.get_data_info(i)
        reader, video = item['inputs']['reader'], info['video_id']
        if 'gt_rles' not in item['data_samples']:
            raise ValueError(f'expected a data set with masks, got none for {video}')
        with inferencer.session(reader, list(item['data_samples'].expressions)) as session:
            for e, track in enumerate(item['data_samples'].gt_rles):
                truth = [decode_rle(rle) for rle in track]
                if not any(mask.any() for mask in truth):
                    continue  # nothing to click on in most of the frames
                rows, first = refine(session, e, truth, clicks)
                figures['all'][video].append(rows.mean(1).tolist())
                if first is not None:
                    key = session.out['key_frames'][e]
                    later = rows[:2, first + 1:] if first >= key else rows[:2, :first]
                    if later.shape[1]:
                        figures['later'][video].append(later.mean(1).tolist())
    return figures


def main() -> None:
    """Measure, print the table."""
    parser = argparse.ArgumentParser(description='J&F before and after simulated clicks')
    parser.add_argument('config', metavar='CONFIG', help='config file')
    parser.add_argument('checkpoint', metavar='CHECKPOINT', help='as for tools/test.py')
    parser.add_argument('--device', default='cpu', help='default: %(default)s')
    parser.add_argument('--videos', type=int, metavar='N', help='only the first N videos')
    parser.add_argument('--clicks', type=int, default=3, metavar='N',
                        help='of each expression (default: %(default)s)')
    parser.add_argument('--out', metavar='F.json', help='J&F of each expression')
    parser.add_argument('--cfg-options', nargs='+', action=ConfigOptions, metavar='K=V',
                        help='override config values')
    args = parser.parse_args()
    try:
        figures = measure(read_config(args.config, args.cfg_options), args.checkpoint,
                          args.device, args.videos, args.clicks)
    except (OSError, KeyError, ValueError) as error:
        parser.error(str(error.args[0] if isinstance(error, KeyError) else error))
    if args.out:
        Path(args.out).write_text(json.dumps(figures), encoding='utf-8')

    def row(label: str, values: dict[str, list[list[float]]], n: int) -> str:
        mean = cluster_mean({v: [100 * r[n] for r in rows] for v, rows in values.items()})
        gain = cluster_mean({v: [100 * (r[n] - r[0]) for r in rows]
                             for v, rows in values.items()})
        interval = '-' if gain.low is None else f'{gain.low:+.2f} to {gain.high:+.2f}'
        return (f'| {label} | {mean.expressions} | {mean.mean:.2f} | {gain.mean:+.2f} | '
                f'{interval} |')

    print('| J&F in % | expressions | mean | gain | 95 % interval |\n|---|---:|---:|---:|---:|')
    for n in range(args.clicks + 1):
        print(row(f'{n} click{"s" * (n != 1)}', figures['all'], n))
    for n, label in enumerate(('later frames, before the first click', 'later frames, after it')):
        print(row(label, figures['later'], n))


if __name__ == '__main__':
    main()
