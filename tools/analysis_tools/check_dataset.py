"""Reads every frame and every mask of a data set, and lists what is wrong.

Building a data set checks its annotation. Images and PNG masks are only read when they are asked
for; this finds what is missing or damaged before a training does.

Example:
    python tools/analysis_tools/check_dataset.py configs/_base_/datasets/ref-youtube-vos.py
    python tools/analysis_tools/check_dataset.py configs/_base_/datasets/mevis.py --phase test \\
        --cfg-options test_dataloader.dataset.data_root=data/mevis/valid
"""

import argparse
import sys

from tqdm import tqdm

from glus_mm.datasets import BaseRefVOSDataset, MixedRefVOSDataset
from glus_mm.registry import DATASETS, build_child
from glus_mm.utils.command_line import read_config
from glus_mm.utils.config_input import ConfigOptions
from glus_mm.utils.image import read_image


def build_datasets(args: argparse.Namespace) -> list[BaseRefVOSDataset]:
    """Build the data sets of a config without their pipelines.

    Returns:
        The data sets; more than one if they are mixed.

    Raises:
        FileNotFoundError: the config, an annotation or its masks are missing.
        ValueError: the config has no such data loader, or an annotation is not as it should be.
    """
    cfg = read_config(args.config, args.cfg_options)
    loader = cfg.get(f'{args.phase}_dataloader')
    if not loader:
        raise ValueError(f'{args.config}: expected {args.phase}_dataloader, got none')
    dataset = loader.dataset.to_dict()
    parts = dataset.get('datasets', [dataset])
    for part in parts:
        part['pipeline'] = []
    built = build_child(DATASETS, dataset)
    built.full_init()
    return list(built.datasets) if isinstance(built, MixedRefVOSDataset) else [built]


def check_video(dataset: BaseRefVOSDataset, info: dict) -> list[str]:
    """Read a video and its masks.

    Returns:
        What is wrong: at most one message for the frames and one per expression.
    """
    errors, shape = [], info['ori_shape']
    alike = 'media' not in info  # the images of a conversation are of any size
    try:
        for path in info['img_paths']:
            found = read_image(path, upright=False).shape[:2]
            if alike and shape is not None and tuple(found) != tuple(shape):
                raise ValueError(f'{path}: expected a frame of size (H, W) = {tuple(shape)}, as '
                                 f'the annotation or the frames before it, got {tuple(found)}')
            shape = found
    except (OSError, ValueError) as error:
        errors.append(f'{info["entry"]}: {error}' if 'entry' in info else str(error))
    if dataset.masks is None or shape is None:
        return errors
    for expression in info['expressions']:
        try:
            for t in range(len(info['frame_names'])):
                dataset.masks.rles(expression, t, shape)
        except (OSError, ValueError) as error:
            errors.append(str(error))
    return errors


def main(argv: list[str] | None = None) -> int:
    """Check.

    Returns:
        Exit status, 1 where something is wrong.
    """
    parser = argparse.ArgumentParser(description='Read all of a data set')
    parser.add_argument('config', metavar='CONFIG', help='config with data loaders')
    parser.add_argument('--phase', choices=('train', 'val', 'test'), default='train',
                        help='whose data loader (default: %(default)s)')
    parser.add_argument('--max-errors', type=int, default=20, metavar='N',
                        help='stop after so many (default: %(default)s)')
    parser.add_argument('--cfg-options', nargs='+', action=ConfigOptions, metavar='K=V',
                        help='override config values')
    args = parser.parse_args(argv)
    try:
        datasets = build_datasets(args)
    except (OSError, KeyError, TypeError, ValueError) as error:
        print(f'check_dataset.py: error: {error}', file=sys.stderr)
        return 1
    num_errors = 0
    for dataset in datasets:
        name = dataset.metainfo['dataset']
        expressions = 0
        for index in tqdm(range(len(dataset)), desc=name, unit='video'):
            info = dataset.get_data_info(index)
            expressions += len(info['expressions'])
            for message in check_video(dataset, info):
                tqdm.write(message)
                num_errors += 1
            if num_errors >= args.max_errors:
                print(f'{name}: stopped after {num_errors} errors')
                return 1
        masks = 'without masks' if dataset.masks is None else 'with masks'
        print(f'{name}: {len(dataset)} videos, {expressions} expressions, {masks}')
    print(f'{num_errors} errors' if num_errors else 'all is there')
    return 1 if num_errors else 0


if __name__ == '__main__':
    sys.exit(main())
