"""Brings label maps of semantic segmentation into the COCO-format JSON that COCOClassDataset reads.

A label map is a PNG with the number of a class in every pixel, beside an image of the same name.
Written are one annotation a class and image, as compressed run lengths.

The names come from a text file: ``number: name`` a line (COCO-Stuff's labels.txt), or a table with
the number in its first column and the name in its last one, separated by tabs (ADE20K's
objectInfo150.txt). Of several names, separated by commas or semicolons, the first one is taken.

Examples:
    python tools/dataset_converters/label_maps.py data/ade20k/images/training \
        data/ade20k/annotations/training data/ade20k/objectInfo150.txt \
        data/ade20k/annotations/training.json --ignore 0
    python tools/dataset_converters/label_maps.py data/cocostuff/train2017 \
        data/cocostuff/annotations/train2017 data/cocostuff/labels.txt \
        data/cocostuff/annotations/train2017.json --offset -1 --ignore 255
"""

import argparse
import json
import re
import sys
from pathlib import Path

import cv2
import numpy as np

from glus_mm.utils.masks import encode_mask


def read_names(path: Path, offset: int) -> dict[int, str]:
    """Read the names of the classes.

    Returns:
        Name of each number in a label map.

    Raises:
        ValueError: a line has another form.
    """
    names = {}
    for number, line in enumerate(path.read_text(encoding='utf-8').splitlines(), 1):
        found = re.fullmatch(r'\s*(\d+)\s*(?::|\t(?:.*\t)?)\s*([^\t]+?)\s*', line)
        if found:
            names[int(found[1]) + offset] = re.split('[,;]', found[2])[0].strip()
        elif line.strip() and number > 1:  # a table has a header
            raise ValueError(f'{path}: expected a number and a name in line {number}, got {line!r}')
    if not names:
        raise ValueError(f'{path}: expected names of classes, got none')
    return names


def convert(images: Path, maps: Path, names: dict[int, str], ignore: set[int]) -> dict:
    """Read all label maps.

    Args:
        images: folder of the images.
        maps: folder of the label maps.
        names: name of each number.
        ignore: numbers that are no class.

    Returns:
        The content of the JSON file.

    Raises:
        FileNotFoundError: there is no map, or a map has no image.
        ValueError: a map cannot be read, or has a number without a name.
    """
    content = dict(images=[], annotations=[], categories=[
        dict(id=number, name=name) for number, name in sorted(names.items())])
    for path in sorted(maps.glob('*.png')):
        image = images / f'{path.stem}.jpg'
        if not image.is_file():
            raise FileNotFoundError(f'expected the image of {path} at {image}, got nothing there')
        labels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        if labels is None or labels.ndim != 2:
            raise ValueError(f'{path}: expected a PNG with one number a pixel, got another one')
        image_id = len(content['images']) + 1
        height, width = labels.shape
        content['images'].append(
            dict(id=image_id, file_name=image.name, height=height, width=width))
        for number in map(int, np.unique(labels)):
            if number in ignore:
                continue
            if number not in names:
                raise ValueError(f'{path}: expected numbers of {min(names)}..{max(names)} with a '
                                 f'name, or to be ignored ({sorted(ignore)}), got {number}')
            content['annotations'].append(dict(
                id=len(content['annotations']) + 1, image_id=image_id, category_id=number,
                segmentation=encode_mask(labels == number)))
    if not content['images']:
        raise FileNotFoundError(f'expected label maps (*.png) in {maps}, got none')
    return content


def main(argv: list[str] | None = None) -> int:
    """Convert; returns the exit status."""
    parser = argparse.ArgumentParser(description='Bring label maps into COCO format.')
    parser.add_argument('images', type=Path, metavar='IMAGES', help='folder of the JPEG images')
    parser.add_argument('maps', type=Path, metavar='MAPS', help='folder of the PNG label maps')
    parser.add_argument('names', type=Path, metavar='NAMES', help='file with the names')
    parser.add_argument('out', type=Path, metavar='OUT', help='JSON file to write')
    parser.add_argument('--offset', type=int, default=0,
                        help='what to add to the numbers in NAMES to get those in the maps '
                             '(default: %(default)s; COCO-Stuff: -1)')
    parser.add_argument('--ignore', type=int, nargs='+', default=[255],
                        help='numbers in the maps that are no class (default: 255; ADE20K: 0)')
    args = parser.parse_args(argv)
    try:
        names = read_names(args.names, args.offset)
        content = convert(args.images, args.maps, names, set(args.ignore))
        args.out.write_text(json.dumps(content), encoding='utf-8')
    except (OSError, ValueError) as error:
        print(f'label_maps.py: error: {error}', file=sys.stderr)
        return 1
    print(f'wrote {len(content["images"])} images with {len(content["annotations"])} masks to '
          f'{args.out}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
