"""Measures what the speed levels of inference cost in accuracy.

Each level segments the same videos. With a data set: J&F of each over all frames, by thirds of a
video, as errors may add up, and by frame; with a clip: the mean IoU with the masks of the
first level, ``exact``, which is the config as it is. In both cases how far the seg embeddings are
from those of that level, by the position of the frame. Examples::

    python dev/speed_levels.py configs/glus/glus_tiny_moving-shapes.py \\
        checkpoints/glus_tiny_moving-shapes.pth --videos 25 --expressions 4
    python dev/speed_levels.py CONFIG CHECKPOINT --clip clip.mp4 \\
        --text "the red car" --text "a dog" --frames 48
"""

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from study import study_parser, test_set, videos_of

from glus_mm.apis import init_model
from glus_mm.evaluation.functional import boundary_accuracy, region_similarity
from glus_mm.models import GLUS
from glus_mm.structures import RefVOSDataSample
from glus_mm.utils.command_line import read_config
from glus_mm.utils.masks import decode_rle
from glus_mm.video import ArrayReader, FrameReader, open_reader

FROZEN = {'model.mllm.trainable': [], 'model.mask_head.trainable': []}
LEVELS = {
    'exact': {},
    'window_stride=2': {'model.test_cfg.window_stride': 2},
    'window_stride=4': {'model.test_cfg.window_stride': 4},
    'window_cache=turns': {'model.test_cfg.window_cache': 'turns'},
    'bfloat16': {'model.dtype': 'bfloat16', **FROZEN},
    'compile': {'model.test_cfg.compile': True},
    'llm_bits=8': {'model.test_cfg.llm_bits': 8, **FROZEN},
    'llm_bits=4': {'model.test_cfg.llm_bits': 4, **FROZEN},
}
"""Options of the config."""
SHOWN = 12  # first frames, or parts of a video


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = study_parser(__doc__)
    parser.set_defaults(videos=25)
    parser.add_argument('--levels', nargs='+', choices=list(LEVELS), default=list(LEVELS),
                        help="the first one is 'exact', with which the others are compared")
    parser.add_argument('--expressions', type=int, default=4, help='of each video, the first ones')
    parser.add_argument('--clip', metavar='PATH',
                        help='a video file or a folder of frames instead of the test set')
    parser.add_argument('--text', action='append', help='of the clip; may be repeated')
    parser.add_argument('--frames', type=int, default=48, help='of the clip, the first ones')
    parser.add_argument('--data-root', metavar='DIR',
                        help='where the test set is, if not where the config says')
    args = parser.parse_args()
    args.levels = list(dict.fromkeys(['exact', *args.levels]))
    if bool(args.clip) != bool(args.text):
        parser.error('expected --clip together with --text')
    return args


def items_of(args: argparse.Namespace) -> Iterator[tuple[FrameReader, RefVOSDataSample]]:
    """The videos, with a few expressions of each."""
    if args.clip:
        reader = open_reader(args.clip)
        frames = [reader.read(t) for t in range(min(args.frames, len(reader)))]
        reader.close()
        yield ArrayReader(frames), RefVOSDataSample(metainfo=dict(
            dataset='clip', video_id='clip', expressions=tuple(args.text),
            exp_ids=tuple(map(str, range(len(args.text))))))
        return
    root = {'test_dataloader.dataset.data_root': args.data_root} if args.data_root else {}
    cfg = read_config(args.config, {**(args.cfg_options or {}), **root})
    for video in videos_of(test_set(cfg), args.videos):
        sample = video.sample
        sample.set_metainfo({key: sample.get(key)[:args.expressions]
                             for key in ('expressions', 'exp_ids')})
        sample.gt_rles = sample.gt_rles[:args.expressions]
        yield video.reader, sample


@torch.inference_mode()
def segment(model: GLUS, reader: FrameReader, sample: RefVOSDataSample
            ) -> tuple[np.ndarray, np.ndarray]:
    """Masks, bool (E, T, H, W), and seg embeddings (E, T, C)."""
    session = model.init_session(reader, sample)
    keys = model.selector.select(reader, sample).frame_ids
    masks = np.empty((len(keys), len(reader), *reader.shape), dtype=bool)
    tokens = np.empty((len(keys), len(reader), model.mask_head.token_dim), dtype=np.float32)
    for t, exps, pred in model.segment(session, keys):
        masks[exps, t] = pred.masks.cpu().numpy()
        tokens[exps, t] = pred.seg_tokens.float().cpu().numpy()
    return masks, tokens


def j_and_f(gt_rles: list, masks: np.ndarray) -> list[list[float]]:
    """J&F of each expression, frame by frame."""
    return [[(region_similarity(truth, mask) + boundary_accuracy(truth, mask)) / 2
             for truth, mask in zip(map(decode_rle, rles), predicted)]
            for rles, predicted in zip(gt_rles, masks)]


def in_parts(scores: list[list[float]], number: int) -> np.ndarray:
    """J&F in percent of so many equal parts of the videos, of fewer where frames are few."""
    number = min(number, *map(len, scores))
    return 100 * np.mean([[part.mean() for part in np.array_split(np.array(row), number)]
                          for row in scores], 0)


def distances(exact: np.ndarray, tokens: np.ndarray) -> list[float]:
    """Of seg embeddings (E, T, C) by frame: the mean over E, relative to their length."""
    return (np.linalg.norm(tokens - exact, axis=-1)
            / np.linalg.norm(exact, axis=-1)).mean(0).tolist()


def main() -> None:
    """Measure."""
    args = parse_args()
    models = {name: init_model(args.config, args.checkpoint, args.device,
                               {**(args.cfg_options or {}), **LEVELS[name]})
              for name in args.levels}
    figures = {name: dict(iou=[], j_and_f=[], distance=[], cpu_s=0.0) for name in models}
    for number, (reader, sample) in enumerate(items_of(args), 1):
        exact = None
        for name, model in models.items():
            cpu = time.process_time()
            masks, tokens = segment(model, reader, sample)
            figures[name]['cpu_s'] += time.process_time() - cpu
            exact = (masks, tokens) if exact is None else exact
            figures[name]['distance'].append(distances(exact[1], tokens))
            figures[name]['iou'].append(float(np.mean([
                region_similarity(a, b) for pair in zip(exact[0], masks) for a, b in zip(*pair)])))
            if not args.clip:
                figures[name]['j_and_f'] += j_and_f(sample.gt_rles, masks)
        print(f'after {number} videos', flush=True)
        for name, figure in figures.items():
            score = '' if args.clip else 'J&F {:6.2f} (thirds {:.2f}, {:.2f}, {:.2f})  '.format(
                *in_parts(figure['j_and_f'], 1), *in_parts(figure['j_and_f'], 3))
            print(f'  {name:20}{score}IoU with exact {np.mean(figure["iou"]):.4f}  '
                  f'{figure["cpu_s"]:.1f} CPU s', flush=True)
    for name, figure in figures.items():
        if not args.clip:
            print(f'{name:20}J&F by frame, or by twelfth of longer videos: '
                  + ' '.join(f'{score:.1f}' for score in in_parts(figure['j_and_f'], SHOWN)))
        same = min(map(len, figure['distance']))
        by_frame = np.mean([row[:same] for row in figure['distance']], 0)
        print(f'{name:20}seg embeddings differ by, frame by frame: '
              + ' '.join(f'{value:.1e}' for value in by_frame[:SHOWN])
              + (f' ... {by_frame[-1]:.1e}' if same > SHOWN else ''))
    if args.out:
        Path(args.out).write_text(json.dumps(figures))


if __name__ == '__main__':
    main()
