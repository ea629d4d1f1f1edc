"""Make the picture at the top of the README: what the shipped checkpoint answers.

Three held-out videos of MovingShapes and three expressions of each, all drawn at random. Prints the
mean J of every expression. Example::

    python dev/make_teaser.py docs/images/teaser.gif
"""

import argparse
from pathlib import Path

import numpy as np

from glus_mm.apis import GLUSInferencer, init_model
from glus_mm.datasets.moving_shapes import generate_video
from glus_mm.evaluation.functional import region_similarity
from glus_mm.visualization import OverlayVideoWriter, RefVOSLocalVisualizer

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / 'configs' / 'glus' / 'glus_tiny_moving-shapes.py'
CHECKPOINT = ROOT / 'checkpoints' / 'glus_tiny_moving-shapes.pth'
# Those of the README's figures: no video of this seed was trained on.
SEED, SPLIT = 777, 'valid_u'
# Drawn, not chosen: of each of three drawn videos, three expressions with a target.
VIDEOS, TEXTS = 100, 3
FPS = 6.0
PANEL_WIDTH = 260
GAP = 8
GROUND = 32


def draw_panels(inferencer: GLUSInferencer, index: int, rng: np.random.Generator
                ) -> list[np.ndarray]:
    """Segment one video by expressions that are drawn; (T) frames with masks and texts below."""
    video = generate_video(SEED, SPLIT, index)
    known = [expression for expression in video.expressions if expression.targets]
    drawn = [known[i] for i in rng.choice(len(known), TEXTS, replace=False)]
    texts = [expression.text for expression in drawn]
    masks = inferencer(list(video.frames), texts)['masks']
    for expression, track in zip(drawn, masks):
        truth = video.masks[list(expression.targets)].any(axis=0)
        score = np.mean([region_similarity(gt, pred) for gt, pred in zip(truth, track)])
        print(f'{video.video_id}  J {100 * score:5.1f}  {expression.text}')
    visualizer = RefVOSLocalVisualizer('teaser', min_width=PANEL_WIDTH, legend_position='below')
    return [visualizer.draw_frame(frame, np.stack([track[t] for track in masks]), texts)
            for t, frame in enumerate(video.frames)]


def main() -> None:
    """Segment three drawn videos and put them beside one another."""
    parser = argparse.ArgumentParser(description='Make the picture at the top of the README')
    parser.add_argument('out', metavar='OUT.gif', help='the picture, .gif or .mp4')
    parser.add_argument('--draw', type=int, default=0,
                        help='seed of what is drawn (default: %(default)s)')
    args = parser.parse_args()
    inferencer = GLUSInferencer(init_model(CONFIG, CHECKPOINT))
    rng = np.random.default_rng(args.draw)
    columns = [draw_panels(inferencer, index, rng)
               for index in rng.choice(VIDEOS, 3, replace=False).tolist()]
    height = max(panels[0].shape[0] for panels in columns)
    with OverlayVideoWriter(args.out, FPS) as writer:
        for row in zip(*columns):
            writer.write(np.concatenate([
                np.pad(panel, ((GAP, height - panel.shape[0]), (GAP // 2, GAP // 2), (0, 0)),
                       constant_values=GROUND) for panel in row], axis=1))
    print(f'{args.out}: {Path(args.out).stat().st_size / 1000:.0f} kB')


if __name__ == '__main__':
    main()
