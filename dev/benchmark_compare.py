"""How long two systems take to compare, on a generated set of the size of MeViS.

140 videos of 80 frames at 480p with 14 or 15 expressions each, 2,000 in all, with images, masks and
the figures of two systems as ``eval_masks.py --out`` writes them. Runs
``eval_masks.py --compare A.json B.json --masks ... --report ... --out ...`` and prints its time::

    python dev/benchmark_compare.py FOLDER      # some hundred MB, deleted afterwards
"""

import argparse
import json
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np

from glus_mm.utils.masks import encode_mask, write_mask_png

VIDEOS, EXPRESSIONS, FRAMES, OBJECTS, SIZE = 140, 2000, 80, 5, (480, 854)
TOOL = Path(__file__).resolve().parents[1] / 'tools' / 'analysis_tools' / 'eval_masks.py'


def ellipse(rng: np.random.Generator, t: int, start: np.ndarray, speed: np.ndarray) -> np.ndarray:
    """Mask of an object with a rough outline, as real ones have it."""
    mask = np.zeros(SIZE, np.uint8)
    x, y = (start + t * speed) % SIZE[::-1]
    angles = np.linspace(0, 2 * np.pi, 60)
    radii = 60 + 12 * rng.random(60)
    points = np.stack([x + radii * np.cos(angles), y + 0.7 * radii * np.sin(angles)], axis=1)
    return cv2.fillPoly(mask, [points.astype(np.int32)], 1)


def write_set(root: Path) -> None:
    """Write annotation, images, masks and figures. Expressions of a video share one mask file."""
    rng = np.random.default_rng(0)
    meta, mask_dict = {}, {}
    documents = [dict(protocol='mevis', per_expression={}, per_frame={}) for _ in 'ab']
    names = [f'{t:05d}' for t in range(FRAMES)]
    noise = cv2.GaussianBlur(rng.integers(0, 256, (*SIZE, 3), np.uint8), (9, 9), 0)
    for number in range(VIDEOS):
        video = f'video{number:03d}'
        images = root / 'ann' / 'JPEGImages' / video
        images.mkdir(parents=True)
        for t, name in enumerate(names):
            if number:  # the same bytes take as long to decode
                (images / f'{name}.jpg').symlink_to(images.parent.absolute() / 'video000' /
                                                    f'{name}.jpg')
                continue
            assert cv2.imwrite(str(images / f'{name}.jpg'), np.roll(noise, 2 * t, axis=1),
                               [cv2.IMWRITE_JPEG_QUALITY, 90])
        for obj in range(OBJECTS):
            start, speed = rng.random(2) * SIZE[::-1], rng.normal(0, 3, 2)
            masks = [ellipse(rng, t, start, speed) for t in range(FRAMES)]
            mask_dict[str(number * OBJECTS + obj)] = [encode_mask(mask) for mask in masks]
        count = EXPRESSIONS // VIDEOS + (number < EXPRESSIONS % VIDEOS)
        meta[video] = dict(frames=names, expressions={
            str(e): dict(exp='the one that moves across the picture', obj_id=[e % OBJECTS],
                         anno_id=[number * OBJECTS + e % OBJECTS]) for e in range(count)})
        for name, document in zip('ab', documents):
            folder = root / name / video
            (folder / '0').mkdir(parents=True)
            for t, frame in enumerate(names):
                write_mask_png(folder / '0' / f'{frame}.png', masks[t] > 0)
            for e in range(count):
                if e:
                    (folder / str(e)).symlink_to('0')
                values = rng.random(FRAMES).tolist()
                mean = float(np.mean(values))
                document['per_frame'][f'{video}_{e}'] = dict.fromkeys(('J', 'F', 'J&F'), values)
                document['per_expression'][f'{video}_{e}'] = {
                    'J': mean, 'F': mean, 'J&F': mean, 'kind': None, 'has_target': True,
                    'predicted': True}
    (root / 'ann' / 'meta_expressions.json').write_text(json.dumps(dict(videos=meta)))
    (root / 'ann' / 'mask_dict.json').write_text(json.dumps(mask_dict))
    for name, document in zip('ab', documents):
        (root / f'{name}.json').write_text(json.dumps(document))


def main() -> None:
    """Generate, compare, delete."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('folder', type=Path, help='a folder that does not exist')
    folder = parser.parse_args().folder
    folder.mkdir(parents=True)
    try:
        write_set(folder)
        start = time.monotonic()
        subprocess.run(
            [sys.executable, TOOL, '--protocol', 'mevis', '--ann', folder / 'ann', '--compare',
             folder / 'a.json', folder / 'b.json', '--masks', folder / 'a', folder / 'b',
             '--report', folder / 'report.html', '--out', folder / 'out.json'], check=True)
        seconds = time.monotonic() - start
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        core = usage.ru_utime + usage.ru_stime
        size = (folder / 'report.html').stat().st_size / 1e6
        print(f'{VIDEOS} videos, {EXPRESSIONS} expressions, {FRAMES} frames at {SIZE[0]}p: '
              f'{seconds:.1f} s with the start of the program, {core:.1f} s of one core; report of '
              f'{size:.1f} MB')
    finally:
        shutil.rmtree(folder)


if __name__ == '__main__':
    main()
