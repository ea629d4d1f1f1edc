"""Copy a split in MeViS layout with frames that show nothing, to see what text alone achieves.

Example::

    python dev/blank_frames.py data/moving_shapes/valid_u data/moving_shapes_blank/valid_u
"""

import argparse
import shutil
from pathlib import Path

import cv2
import numpy as np

from glus_mm.utils.command_line import require_file
from glus_mm.utils.image import read_image
from glus_mm.utils.paths import ensure_writable_dir

GREY = 128


def blank(root: Path, out: Path) -> int:
    """Write the copy.

    Args:
        root: folder of a split; its annotation files are copied as they are.
        out: folder to write.

    Returns:
        Number of frames.
    """
    for name in ('meta_expressions.json', 'mask_dict.json'):
        shutil.copyfile(root / name, out / name)
    images = sorted((root / 'JPEGImages').glob('*/*.jpg'))
    for path in images:
        target = out / path.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(target), np.full_like(read_image(path), GREY))
    return len(images)


def main() -> None:
    """Check what was asked for, then write."""
    parser = argparse.ArgumentParser(description='Copy a split with blank frames')
    parser.add_argument('root', help='folder of the split')
    parser.add_argument('out', help='folder to write')
    args = parser.parse_args()
    try:
        require_file(str(Path(args.root) / 'mask_dict.json'), 'annotation')
        frames = blank(Path(args.root), ensure_writable_dir(args.out))
    except (OSError, ValueError) as error:
        parser.error(str(error))
    print(f'wrote {frames} blank frames to {args.out}')


if __name__ == '__main__':
    main()
