"""Generates Ref-DAVIS17's mask_dict.json, the masks as GLUS and VISA have them.

It reads the layout that ref_davis.py writes, and adds <split>/mask_dict.json. Its keys are a
running counter over the videos in sorted order and, within a video, the ids of the expressions
sorted as texts.

Example:
    python tools/dataset_converters/ref_davis_masks.py data/DAVIS17 --split valid
"""

import argparse
import json
import sys
from pathlib import Path

from tqdm import tqdm

from glus_mm.datasets import RefDAVISDataset
from glus_mm.datasets.ref_davis import number_expressions
from glus_mm.utils.checkpoint_files import atomic_file
from glus_mm.utils.json_file import read_json_object
from glus_mm.utils.paths import ensure_writable_file


def write_masks(root: Path, split: str, out: Path) -> int:
    """Write the file; it appears complete or not at all.

    Args:
        root: folder of Ref-DAVIS17.
        split: ``'train'`` or ``'valid'``.
        out: what to write.

    Returns:
        Number of expressions.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: the annotation or a PNG is not as it should be.
        OSError: the file cannot be written.
    """
    # Training mode, so that missing masks are an error.
    dataset = RefDAVISDataset(
        data_root=str(root), ann_file=f'meta_expressions/{split}/meta_expressions.json',
        data_prefix=dict(img=f'{split}/JPEGImages', mask=f'{split}/Annotations'))
    numbers = number_expressions(
        read_json_object(dataset.ann_file)['videos'], dataset.ann_file)
    expressions = {(item['video_id'], item['exp_id']): item for index in range(len(dataset))
                   for item in dataset.get_data_info(index)['expressions']}
    with atomic_file(out) as part, open(part, 'w', encoding='ascii') as file:
        for key, number in tqdm(numbers.items(), desc=split, unit='expression'):
            size, length = (dataset.masks.size(expressions[key]),
                            len(expressions[key]['frame_names']))
            rles = [dataset.masks.rles(expressions[key], t, size) for t in range(length)]
            masks = json.dumps([found[0] if found else None for found in rles])
            file.write(f'{"{" if number == "0" else ", "}{json.dumps(number)}: {masks}')
        file.write('}\n')
    return len(numbers)


def main(argv: list[str] | None = None) -> int:
    """Generate the file that the command line asks for.

    Returns:
        Exit status, 1 where something is missing or wrong.
    """
    parser = argparse.ArgumentParser(description='Write the masks of Ref-DAVIS17 as one file.')
    parser.add_argument('root', metavar='ROOT', help='folder that ref_davis.py wrote')
    parser.add_argument('--split', choices=('train', 'valid'), default='valid',
                        help='split (default: %(default)s)')
    parser.add_argument('--out', metavar='FILE',
                        help='what to write (default: ROOT/<split>/mask_dict.json)')
    parser.add_argument('--overwrite', action='store_true', help='replace an earlier file')
    args = parser.parse_args(argv)
    root = Path(args.root)
    out = Path(args.out) if args.out else root / args.split / 'mask_dict.json'
    try:
        if out.exists() and not args.overwrite:
            raise FileExistsError(f'{out} is there already; --overwrite replaces it')
        number = write_masks(root, args.split, ensure_writable_file(out))
    except (OSError, ValueError) as error:
        print(f'ref_davis_masks.py: error: {error}', file=sys.stderr)
        return 1
    print(f'wrote the masks of {number} expressions to {out}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
