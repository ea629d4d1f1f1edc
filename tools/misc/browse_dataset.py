"""Draw samples of a config's data set, to see what training or testing sees.

The samples are the first that the config's own sampler gives, so that the data sets of a mix come
up by its ratios. Each becomes a PNG: the context and the query frames that the config's pipeline
chose, and the mask of every expression in its colour.

Example::

    python tools/misc/browse_dataset.py configs/glus/glus_tiny_moving-shapes.py --num 4 --out sheets
"""

import argparse
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
from mmengine import Config
from mmengine.registry import init_default_scope
from PIL import Image

from glus_mm.registry import DATA_SAMPLERS, DATASETS, build_child
from glus_mm.utils.command_line import load_config, refuse
from glus_mm.utils.config_input import ConfigOptions
from glus_mm.utils.frames import clip_centres
from glus_mm.utils.masks import decode_rle
from glus_mm.visualization import SheetFrame, sample_sheet

# Made for encoders and the MLLM. They choose nothing that is drawn, and some want files (such as
# the tokenizer of large weights) that a look at the data should not.
SKIPPED = ('ResizeForEncoders', 'BuildConversation', 'PackRefVOSInputs')
# As many as the palette has colours.
EXPRESSIONS_PER_SHEET = 8
TEST_FRAMES = 8


def keep_what_is_drawn(dataset: dict) -> None:
    """Take out of the pipelines of a data set, or of all in a mix, what is not needed here."""
    for child in dataset.get('datasets', ()):
        keep_what_is_drawn(child)
    if isinstance(dataset.get('dataset'), dict):
        keep_what_is_drawn(dataset['dataset'])
    if 'pipeline' in dataset:
        dataset['pipeline'] = [
            item for item in dataset['pipeline']
            if not isinstance(item, dict) or str(item['type']).split('.')[-1] not in SKIPPED]
        for item in dataset['pipeline']:
            if isinstance(item, dict) and str(item['type']).split('.')[-1] == 'BuildTalk':
                item['tokenizer'] = 'tiny'  # it chooses the frames, too; its ids are not drawn


def iter_samples(cfg: Config, split: str) -> Iterator[tuple[int, int, dict]]:
    """Run the pipeline on the sampler's items, in its order.

    Yields:
        Index, draw, and what the pipeline's last transform left.

    Raises:
        KeyError: the config has no such data loader.
    """
    loader = cfg.get(f'{split}_dataloader')
    if loader is None:
        raise KeyError(f'{cfg.filename} has no {split}_dataloader')
    keep_what_is_drawn(loader.dataset)
    dataset = build_child(DATASETS, loader.dataset)
    seed = cfg.get('randomness', {}).get('seed') or 0
    sampler = build_child(DATA_SAMPLERS, loader.sampler, dataset=dataset, seed=seed)
    for item in sampler:
        index, draw = item if isinstance(item, tuple) else (item, 0)
        yield index, draw, dataset[item]


def describe(expression: dict) -> str:
    """One line on an expression: its id and text, its kind, and the objects it means."""
    if 'answer' in expression:  # talk
        question = ' '.join(expression['exp'].split())
        return f'{expression["exp_id"]}: {question}   {expression["answer"]}'
    objects = expression['object_ids']
    notes = [expression['kind']] if expression['kind'] else []
    notes.append(f'object{"s" * (len(objects) > 1)} {", ".join(objects)}' if objects
                 else 'no object')
    return f'{expression["exp_id"]}: {expression["exp"]}   ({"; ".join(notes)})'


def training_frames(results: dict, chosen: Sequence[int]) -> tuple[str, list[SheetFrame]]:
    """Heading and frames of a training sample's query; ``chosen`` are expressions to show."""
    if 'gt_masks' not in results:  # talk has no query frames
        return '', []
    masks = results['gt_masks'][list(chosen)] != 0
    return 'Query frames, with the masks that are learned', [
        SheetFrame(image, label(results, frame_idx), masks[:, t])
        for t, (frame_idx, image) in enumerate(
            zip(results['query_frame_ids'], results['query_imgs']))]


def testing_frames(results: dict, chosen: Sequence[int]) -> tuple[str, list[SheetFrame]]:
    """Heading and some frames of a video to test; ``chosen`` are expressions to show."""
    reader, tracks = results['reader'], results.get('gt_rles')
    frames = []
    for frame_idx in sorted(set(clip_centres(len(reader), TEST_FRAMES))):
        masks = None if tracks is None else np.array(
            [decode_rle(tracks[e][frame_idx]) for e in chosen])
        frames.append(SheetFrame(reader.read(frame_idx), label(results, frame_idx), masks))
    truth = 'no ground truth' if tracks is None else 'with ground truth'
    return f'{len(frames)} of the {len(reader)} query frames, {truth}', frames


def label(results: dict, frame_idx: int) -> str:
    """Position and name of a frame."""
    return f'frame {frame_idx}  \N{MIDDLE DOT}  {results["frame_names"][frame_idx]}'


def draw_sample(results: dict, title: str) -> list[np.ndarray]:
    """Draw a sample.

    Returns:
        uint8 (H, W, 3) in RGB: one sheet for every ``EXPRESSIONS_PER_SHEET`` expressions.

    Raises:
        ValueError: the pipeline left neither frames nor a reader.
    """
    if 'reader' not in results and 'query_imgs' not in results:
        raise ValueError('expected a pipeline with LoadRefVOSFrames or OpenFrameReader, got one '
                         f'that gives {sorted(results)}')
    context = [
        SheetFrame(results['context_imgs'][i] if 'context_imgs' in results
                   else results['reader'].read(frame_idx), label(results, frame_idx))
        for i, frame_idx in enumerate(results['context_frame_ids'])]
    expressions, height_width = results['expressions'], results['ori_shape']
    facts = (f'{title}  \N{MIDDLE DOT}  {results["dataset"]}  \N{MIDDLE DOT}  video '
             f'{results["video_id"]}  \N{MIDDLE DOT}  {len(results["frame_names"])} frames, '
             f'{height_width[1]} x {height_width[0]}')
    sheets = []
    for start in range(0, len(expressions), EXPRESSIONS_PER_SHEET):
        chosen = range(start, min(start + EXPRESSIONS_PER_SHEET, len(expressions)))
        part = '' if len(chosen) == len(expressions) else \
            f'  \N{MIDDLE DOT}  expressions {start + 1} to {chosen[-1] + 1} of {len(expressions)}'
        frames_of = testing_frames if 'reader' in results else training_frames
        sheets.append(sample_sheet(
            facts + part, [describe(expressions[e]) for e in chosen],
            [('Context frames', context), frames_of(results, chosen)]))
    return sheets


def browse(cfg: Config, split: str, out: Path, num: int) -> Counter:
    """Draw samples and print the name of every file.

    Args:
        cfg: a config; changed.
        split: whose data loader.
        out: folder for the files ``<number>_<data set>_<video>[_<part>].png``.
        num: how many samples.

    Returns:
        Number of samples of each data set.
    """
    counts: Counter = Counter()
    for number, (_, draw, results) in enumerate(islice(iter_samples(cfg, split), num)):
        counts[results['dataset']] += 1
        # Ids are plain file names, but of any length and script.
        name = re.sub(r'[^A-Za-z0-9.-]+', '_', f'{results["dataset"]}_{results["video_id"]}')[:80]
        sheets = draw_sample(results, f'{split} sample {number}, draw {draw}')
        for part, sheet in enumerate(sheets):
            suffix = f'_{part}' if len(sheets) > 1 else ''
            path = out / f'{number:04d}_{name}{suffix}.png'
            Image.fromarray(sheet).save(path)
            print(path)
    return counts


def main() -> None:
    """Check what was asked for, then draw."""
    parser = argparse.ArgumentParser(
        description='Draw samples of a config\'s data set with their frames, masks and '
                    'expressions, one PNG each')
    parser.add_argument('config', metavar='CONFIG', help='config file')
    parser.add_argument('--split', choices=('train', 'val', 'test'), default='train',
                        help='whose data loader (default: %(default)s)')
    parser.add_argument('--out', metavar='DIR',
                        help='folder for the PNGs (default: work_dirs/<config>/browse_<split>)')
    parser.add_argument('--num', type=int, default=8, metavar='N',
                        help='draw the first N samples of the sampler (default: %(default)s)')
    parser.add_argument('--cfg-options', nargs='+', action=ConfigOptions, metavar='K=V',
                        help='override config values, such as '
                             'train_dataloader.dataset.data_root=/data/mevis/train')
    args = parser.parse_args()
    out = args.out or str(Path('work_dirs') / Path(args.config).stem / f'browse_{args.split}')
    if args.num < 1:
        parser.error(f'--num must be at least 1, got {args.num}')
    with refuse(parser):
        cfg = load_config(args.config, args.cfg_options, out)
        init_default_scope(cfg.get('default_scope') or 'glus_mm')
        counts = browse(cfg, args.split, Path(out).expanduser(), args.num)
    print(f'{sum(counts.values())} samples in {out}: '
          + ', '.join(f'{name} {count}' for name, count in counts.most_common()))


if __name__ == '__main__':
    main()
