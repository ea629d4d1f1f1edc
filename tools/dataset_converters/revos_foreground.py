"""Generates ReVOS's mask_dict_foreground.json, which the robustness score R needs.

For each video it holds the union of the masks of all its expressions, frame by frame, and the share
of pixels that it covers. The official file, where it is at hand, says the same.

Example:
    python tools/dataset_converters/revos_foreground.py data/ReVOS
"""

import argparse
import json
import sys
from pathlib import Path

from pycocotools import mask as coco_mask
from tqdm import tqdm

from glus_mm.datasets import ReVOSDataset
from glus_mm.utils.checkpoint_files import atomic_file
from glus_mm.utils.masks import merge_rles
from glus_mm.utils.paths import ensure_writable_file

ANNOTATIONS = ('meta_expressions_train_.json', 'meta_expressions_valid_.json')


def foreground(dataset: ReVOSDataset, index: int) -> tuple[str, dict]:
    """Unite the masks of a video.

    Returns:
        The video's id, and ``masks_rle`` and ``foreground_ratio``, lists with one entry per frame.

    Raises:
        ValueError: the video states no size, or a mask does not have it.
    """
    info = dataset.get_data_info(index)
    found = (dataset.masks.size(expression) for expression in info['expressions'])
    size = info['ori_shape'] or next((size for size in found if size), None)
    if size is None:
        raise ValueError(f'{dataset.ann_file}: video {info["video_id"]!r}: expected the keys '
                         "'height' and 'width', or a mask that states them, got none")
    masks, ratios = [], []
    for t in range(len(info['frame_names'])):
        rles = {}
        for expression in info['expressions']:
            for anno_id in expression['anno_ids']:
                if anno_id not in rles:
                    one = dict(expression, anno_ids=(anno_id, ))
                    rles[anno_id] = dataset.masks.rles(one, t, size)
        masks.append(merge_rles([rle for found in rles.values() for rle in found], size))
        ratios.append(float(coco_mask.area(masks[-1])) / (size[0] * size[1]))
    return info['video_id'], {'masks_rle': masks, 'foreground_ratio': ratios}


def write_foreground(root: Path, annotations: list[str], out: Path) -> int:
    """Write the file; it appears complete or not at all.

    Returns:
        Number of videos.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: the annotation is not as it should be, or has a video twice.
        OSError: the file cannot be written.
    """
    done: set[str] = set()
    with atomic_file(out) as part, open(part, 'w', encoding='ascii') as file:
        for name in annotations:
            # Training mode, so that missing masks are an error.
            dataset = ReVOSDataset(data_root=str(root), ann_file=name)
            for index in tqdm(range(len(dataset)), desc=name, unit='video'):
                video_id, entry = foreground(dataset, index)
                if video_id in done:
                    raise ValueError(f'{dataset.ann_file}: expected videos that no other '
                                     f'annotation has, got {video_id!r}')
                opening = ', ' if done else '{'
                file.write(f'{opening}{json.dumps(video_id)}: {json.dumps(entry)}')
                done.add(video_id)
        file.write('}\n')
    return len(done)


def main(argv: list[str] | None = None) -> int:
    """Generate the file that the command line asks for.

    Returns:
        Exit status, 1 where something is missing or wrong.
    """
    parser = argparse.ArgumentParser(description='Unite the masks of each video of ReVOS.')
    parser.add_argument('root', metavar='ROOT',
                        help='folder with mask_dict.json and the annotations')
    parser.add_argument('--ann', nargs='+', metavar='FILE',
                        help=f'annotations in it (default: {" and ".join(ANNOTATIONS)})')
    parser.add_argument('--out', metavar='FILE',
                        help='what to write (default: ROOT/mask_dict_foreground.json)')
    parser.add_argument('--overwrite', action='store_true', help='replace an earlier file')
    args = parser.parse_args(argv)
    root = Path(args.root)
    out = Path(args.out) if args.out else root / 'mask_dict_foreground.json'
    annotations = args.ann or [name for name in ANNOTATIONS if (root / name).is_file()]
    try:
        if not annotations:
            raise FileNotFoundError(f'expected {" or ".join(ANNOTATIONS)} in {root}, got neither')
        if out.exists() and not args.overwrite:
            raise FileExistsError(f'{out} is there already; --overwrite replaces it')
        number = write_foreground(root, annotations, ensure_writable_file(out))
    except (OSError, ValueError) as error:
        print(f'revos_foreground.py: error: {error}', file=sys.stderr)
        return 1
    print(f'wrote the foreground of {number} videos to {out}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
