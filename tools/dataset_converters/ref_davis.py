"""Brings Ref-DAVIS17 into the layout that RefDAVISDataset reads.

It takes DAVIS 2017 (the unsupervised trainval archive at 480p: JPEGImages, Annotations_unsupervised
and ImageSets) and the four text files of the expressions (Davis17_annot1.txt, ...), and writes,
for train and valid, meta_expressions/<split>/meta_expressions.json, <split>/JPEGImages and
<split>/Annotations. The videos in the latter are links to the originals unless --copy is given.

An object's expressions are numbered in the order annotator 1 first frame, annotator 1 full video,
annotator 2 first frame, annotator 2 full video; objects are in the order of their ids as texts.

Example:
    python tools/dataset_converters/ref_davis.py DAVIS davis_text_annotations data/DAVIS17
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

from glus_mm.datasets.annotation_fields import check_name, parse_text
from glus_mm.utils.paths import ensure_writable_dir

SPLITS = {'train': 'train', 'valid': 'val'}
TEXT_FILES = ('Davis17_annot1.txt', 'Davis17_annot1_full_video.txt', 'Davis17_annot2.txt',
              'Davis17_annot2_full_video.txt')
# Slips of the pen in the text files.
SAME_VIDEO = {'clasic-car': 'classic-car', 'dog-scale': 'dogs-scale', 'motor-bike': 'motorbike'}
RESOLUTION = '480p'


def read_texts(path: Path) -> dict[tuple[str, str], str]:
    """Read the expressions of one annotator.

    Args:
        path: a file with lines ``<video> <object> "<expression>"``.

    Returns:
        The expression of each pair of video and object.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a line has another form, or an object comes twice; names file and line.
    """
    if not path.is_file():
        raise FileNotFoundError(f'expected a text file with expressions, got nothing at {path}')
    texts: dict[tuple[str, str], str] = {}
    # The second annotator's files are not valid UTF-8.
    raw = path.read_bytes()
    try:
        lines = raw.decode('utf-8').splitlines()
    except UnicodeDecodeError:
        lines = raw.decode('latin-1').splitlines()
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f'{path}, line {number}'
        parts = line.strip().split(maxsplit=2)
        if len(parts) != 3 or not parts[1].isdigit():
            raise ValueError(f'{where}: expected <video> <object> "<expression>", got {line!r:.80}')
        key = (SAME_VIDEO.get(parts[0], parts[0]), parts[1])
        if key in texts:
            raise ValueError(f'{where}: expected one expression for object {key[1]} of video '
                             f'{key[0]!r}, got a second one')
        text = ' '.join(parts[2].split()).removeprefix('"').removesuffix('"')
        texts[key] = parse_text({'exp': text}, 'exp', where)
    return texts


def read_split(path: Path) -> list[str]:
    """Names of the videos of a split, one a line.

    Args:
        path: a file of ``ImageSets/2017``.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it names no video, or something that is no folder name.
    """
    if not path.is_file():
        raise FileNotFoundError(f'expected a list of videos, got nothing at {path}')
    videos = path.read_text(encoding='utf-8').split()
    for video in videos:
        check_name(video, str(path))
    if not videos:
        raise ValueError(f'{path}: expected at least one video, got none')
    return videos


def video_entry(video: str, images: Path, texts: list[dict[tuple[str, str], str]]) -> dict:
    """Frames and expressions of a video.

    Args:
        video: its name.
        images: folder with its frames.
        texts: what ``read_texts`` returns, by annotation.

    Returns:
        An entry of ``videos`` in ``meta_expressions.json``.

    Raises:
        FileNotFoundError: there are no frames.
        ValueError: an object has not four expressions.
    """
    frames = sorted(path.stem for path in images.glob('*.jpg'))
    if not frames:
        raise FileNotFoundError(f'video {video!r}: expected frames in {images}, got none')
    objects = sorted({obj for part in texts for name, obj in part if name == video})
    if not objects:
        raise ValueError(f'video {video!r}: expected expressions in {TEXT_FILES[0]}, got none')
    expressions = {}
    for obj in objects:
        for part, name in zip(texts, TEXT_FILES):
            if (video, obj) not in part:
                raise ValueError(f'{name}: video {video!r}: expected an expression for object '
                                 f'{obj}, as in the other files, got none')
            expressions[str(len(expressions))] = {'exp': part[video, obj], 'obj_id': obj}
    return {'expressions': expressions, 'frames': frames}


def convert(args: argparse.Namespace, out: Path) -> dict[str, int]:
    """Write everything into an empty folder; returns the number of expressions of each split."""
    davis = Path(args.davis)
    texts = [read_texts(Path(args.texts) / name) for name in TEXT_FILES]
    counts = {}
    for split in args.splits:
        names = read_split(davis / 'ImageSets' / '2017' / f'{SPLITS[split]}.txt')
        videos = {name: video_entry(name, davis / 'JPEGImages' / RESOLUTION / name, texts)
                  for name in names}
        meta = out / 'meta_expressions' / split / 'meta_expressions.json'
        meta.parent.mkdir(parents=True)
        meta.write_text(json.dumps({'videos': videos}), encoding='ascii')
        for kind, source in (('JPEGImages', 'JPEGImages'),
                             ('Annotations', 'Annotations_unsupervised')):
            (out / split / kind).mkdir(parents=True)
            for name in names:
                origin, target = davis / source / RESOLUTION / name, out / split / kind / name
                if not origin.is_dir():
                    raise FileNotFoundError(f'video {name!r}: expected the folder {origin}, got '
                                            'no such folder')
                if args.copy:
                    shutil.copytree(origin, target)
                else:
                    target.symlink_to(origin.resolve(), target_is_directory=True)
        counts[split] = sum(len(video['expressions']) for video in videos.values())
    return counts


def main(argv: list[str] | None = None) -> int:
    """Convert; the folder appears complete or not at all.

    Returns:
        Exit status, 1 where something is missing or wrong.
    """
    parser = argparse.ArgumentParser(description='Bring Ref-DAVIS17 into one layout.')
    parser.add_argument('davis', metavar='DAVIS', help='root of DAVIS 2017')
    parser.add_argument('texts', metavar='TEXTS', help='folder of the four text files')
    parser.add_argument('out', metavar='OUT', help='what to write; must not be there yet')
    parser.add_argument('--splits', nargs='+', choices=sorted(SPLITS), default=sorted(SPLITS),
                        help='splits to write (default: %(default)s)')
    parser.add_argument('--copy', action='store_true', help='copy images, do not link them')
    args = parser.parse_args(argv)
    out = Path(args.out)
    try:
        if out.exists():
            raise FileExistsError(f'expected a folder to be made, got one that is there: {out}')
        parent = ensure_writable_dir(out.parent)
        with tempfile.TemporaryDirectory(dir=parent, prefix='.ref_davis_') as folder:
            part = Path(folder) / 'part'
            part.mkdir()
            counts = convert(args, part)
            os.replace(part, out)
    except (OSError, ValueError) as error:
        print(f'ref_davis.py: error: {error}', file=sys.stderr)
        return 1
    for split, number in counts.items():
        print(f'{out}: {number} expressions of {split}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
