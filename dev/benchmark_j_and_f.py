"""Measure J and F against the plain way, and eval_masks.py with one and several processes.

The plain way is how davis2017-evaluation works: the boundary of the whole mask with NumPy, dilated
with a disk by ``cv2.dilate``. Both run in one thread, alternately, on the same pairs of masks with
an object of about 10 % of the frame, and must agree to the last bit, also on random masks of odd
sizes.

Examples::

    python dev/benchmark_j_and_f.py
    python dev/benchmark_j_and_f.py --eval-masks /tmp --workers 1 2
    # A twentieth of Long-RVOS's test set, predictions as run lengths in one file
    python dev/benchmark_j_and_f.py --eval-masks /tmp --protocol long-rvos \\
        --pred-format json --counts 30 3 360
"""

import argparse
import json
import math
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from glus_mm.evaluation.functional import boundary_accuracy, region_similarity
from glus_mm.utils.masks import encode_mask, write_mask_png

SIZES = {(480, 854): 2.78, (1080, 1920): 42.3}
"""Frames, and what davis2017-evaluation takes for F in ms, measured on another machine."""
GOALS = {(480, 854): 8, (1080, 1920): 20}
Pair = tuple[np.ndarray, np.ndarray]


def plain_boundary(mask: np.ndarray) -> np.ndarray:
    """Boundary of a mask, bool (H, W), on all of it."""
    east, south, both = (np.zeros_like(mask) for _ in range(3))
    east[:, :-1] = mask[:, 1:]
    south[:-1] = mask[1:]
    both[:-1, :-1] = mask[1:, 1:]
    boundary = mask ^ east | mask ^ south | mask ^ both
    boundary[-1] = mask[-1] ^ east[-1]
    boundary[:, -1] = mask[:, -1] ^ south[:, -1]
    boundary[-1, -1] = False
    return boundary


def plain_f(gt: np.ndarray, pred: np.ndarray) -> float:
    """F in the plain way; see :func:`boundary_accuracy`."""
    radius = math.ceil(0.008 * np.linalg.norm(gt.shape))
    y, x = np.ogrid[-radius:radius + 1, -radius:radius + 1]
    disk = (x * x + y * y <= radius * radius).astype(np.uint8)
    a, b = plain_boundary(gt), plain_boundary(pred)
    near_a, near_b = (cv2.dilate(bound.astype(np.uint8), disk) for bound in (a, b))
    num_a, num_b = np.sum(a), np.sum(b)
    if num_a == 0 or num_b == 0:
        return float(num_a == num_b)
    recall, precision = np.sum(a * near_b) / float(num_a), np.sum(b * near_a) / float(num_b)
    return 0.0 if precision + recall == 0 else 2 * precision * recall / (precision + recall)


def plain_j(gt: np.ndarray, pred: np.ndarray) -> float:
    """J in the plain way; see :func:`region_similarity`."""
    union = np.sum(gt | pred)
    return 1.0 if union == 0 else np.sum(gt & pred) / union


def blob(size: tuple[int, int], share: float, rng: np.random.Generator) -> np.ndarray:
    """A star-shaped object somewhere near the middle, bool (H, W)."""
    h, w = size
    y, x = np.mgrid[:h, :w]
    dy = y - h * (0.5 + 0.02 * rng.standard_normal())
    dx = x - w * (0.5 + 0.02 * rng.standard_normal())
    angle = np.arctan2(dy, dx)
    radius = math.sqrt(share * h * w / math.pi)
    waves = sum(rng.uniform(0.02, 0.12) * np.sin(k * angle + rng.uniform(0, 6)) for k in (3, 5, 11))
    return np.hypot(dy, dx) < radius * (1 + waves)


def make_pairs(size: tuple[int, int], count: int) -> list[Pair]:
    """Pairs of a true mask and a prediction that differs from it."""
    rng = np.random.default_rng(size)
    return [(blob(size, 0.1, rng), blob(size, 0.1, rng)) for _ in range(count)]


def random_mask(size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Noise, rectangles, nothing or everything, bool (H, W)."""
    kind = rng.integers(5)
    if kind == 0:
        return rng.random(size) < rng.random()
    mask = np.zeros(size, dtype=bool)
    for _ in range(kind - 1):
        rows, columns = (np.sort(rng.integers(0, side + 1, 2)) for side in size)
        mask[rows[0]:rows[1], columns[0]:columns[1]] ^= True
    return mask


def check_equal(count: int, largest: int = 301) -> None:
    """Compare both ways on random masks of odd sizes.

    Raises:
        SystemExit: they differ.
    """
    rng = np.random.default_rng(0)
    for _ in range(count):
        size = tuple(2 * rng.integers(0, largest // 2 + 1, 2) + 1)
        gt, pred = random_mask(size, rng), random_mask(size, rng)
        found = region_similarity(gt, pred), boundary_accuracy(gt, pred)
        expected = plain_j(gt, pred), plain_f(gt, pred)
        if found != expected:
            raise SystemExit(f'expected {expected}, got {found} for masks of size {size}')
    print(f'bit-equal on {count} of {count} pairs of random masks with odd sides from 1 to '
          f'{largest}')


def time_rounds(functions: Sequence[Callable[[np.ndarray, np.ndarray], float]],
                pairs: Sequence[Pair], rounds: int) -> list[float]:
    """Run functions alternately, each on all pairs in turn.

    Returns:
        For each function the median over rounds of the time per pair, in ms.
    """
    times: list[list[float]] = [[] for _ in functions]
    for _ in range(rounds):
        for function, measured in zip(functions, times):
            start = time.perf_counter()
            for gt, pred in pairs:
                function(gt, pred)
            measured.append(1000 * (time.perf_counter() - start) / len(pairs))
    return [statistics.median(measured) for measured in times]


def measure_functions(rounds: int, num_pairs: int) -> None:
    """Print the table of J and F."""
    print(f'ms per frame, one thread, medians of {rounds} rounds over {num_pairs} pairs of masks')
    print(f'{"":14}{"plain":>9}{"glus_mm":>9}{"faster":>9}{"goal":>7}{"official":>10}')
    for size, official in SIZES.items():
        pairs = make_pairs(size, num_pairs)
        if any(plain_f(*pair) != boundary_accuracy(*pair)
               or plain_j(*pair) != region_similarity(*pair) for pair in pairs):
            raise SystemExit(f'expected equal figures for masks of size {size}, got others')
        area = np.mean([gt.mean() for gt, _ in pairs])
        times = time_rounds([plain_f, boundary_accuracy, plain_j, region_similarity], pairs,
                            rounds)
        name = f'{size[0]}x{size[1]}'
        print(f'F {name:12}{times[0]:9.2f}{times[1]:9.3f}{times[0] / times[1]:8.1f}x'
              f'{GOALS[size]:6d}x{official:10.2f}   object {100 * area:.1f} % of the frame')
        print(f'J {name:12}{times[2]:9.2f}{times[3]:9.3f}{times[2] / times[3]:8.1f}x')


def write_synthetic(root: Path, num_videos: int, num_expressions: int, num_frames: int,
                    size: tuple[int, int], protocol: str = 'mevis',
                    pred_format: str = 'png') -> None:
    """Write annotation and predictions.

    Args:
        root: gets ``ann``, and ``pred`` or ``pred.json``.
        num_videos: number of videos.
        num_expressions: of each video.
        num_frames: of each video.
        size: ``(H, W)``.
        protocol: ``'mevis'`` or ``'long-rvos'``, whose layout the annotation gets.
        pred_format: ``'png'``, or ``'json'`` for run lengths in one file.
    """
    videos: dict = {}
    tracks: dict = {}
    frames = [f'{t:05d}' for t in range(num_frames)]
    rng = np.random.default_rng(0)
    shapes = [blob(size, rng.uniform(0.03, 0.15), rng) for _ in range(12)]
    steps = [(int(dy), int(dx)) for dy, dx in rng.integers(-2, 3, (12, 2))]
    (root / 'ann').mkdir(parents=True)
    with open(root / 'pred.json', 'w', encoding='utf-8') as results:
        for v in tqdm(range(num_videos), desc='writing', unit='video'):
            video = f'video{v:03d}'
            objects = [(v + k) % len(shapes) for k in range(min(8, num_expressions))]

            def mask_of(place: int, t: int, objects: list[int] = objects) -> np.ndarray:
                dy, dx = steps[objects[place]]
                return np.roll(shapes[objects[place]], (t * dy, t * dx), (0, 1))

            for place in range(len(objects)):
                if protocol == 'mevis':
                    tracks[str(v * len(objects) + place)] = [
                        encode_mask(mask_of(place, t)) for t in range(num_frames)]
                    continue
                folder = root / 'ann' / 'Annotations' / video / str(place)
                folder.mkdir(parents=True)
                for t, frame in enumerate(frames):
                    write_mask_png(folder / f'{frame}.png', mask_of(place, t))
            expressions, rles = {}, {}
            for e in range(num_expressions):
                place = e % len(objects)
                target: dict = {'obj_id': [place], 'anno_id': [v * len(objects) + place]}
                if protocol == 'long-rvos':
                    target = {'obj_id': place,
                              'type': ('static', 'dynamic', 'static+dynamic')[e % 3]}
                expressions[str(e)] = {'exp': 'a shape', **target}
                preds = (np.roll(mask_of(place, t), (e % 5, e % 7), (0, 1))
                         for t in range(num_frames))
                if pred_format == 'json':
                    rles[str(e)] = [encode_mask(pred) for pred in preds]
                    continue
                folder = root / 'pred' / video / str(e)
                folder.mkdir(parents=True)
                for frame, pred in zip(frames, preds):
                    write_mask_png(folder / f'{frame}.png', pred)
            results.write(f'{"," if v else "{"}"{video}": {json.dumps(rles)}')
            videos[video] = {'frames': frames, 'expressions': expressions}
        results.write('}')
    (root / 'ann' / 'meta_expressions.json').write_text(json.dumps({'videos': videos}))
    if protocol == 'mevis':
        (root / 'ann' / 'mask_dict.json').write_text(json.dumps(tracks))


def cpu_seconds() -> float:
    """CPU time of all processes that were started and have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def measure_eval_masks(folder: str, workers: Sequence[int], repeats: int,
                       counts: tuple[int, int, int], protocol: str = 'mevis',
                       pred_format: str = 'png') -> None:
    """Time eval_masks.py on a synthetic set, which is deleted afterwards.

    Args:
        folder: where the set is written.
        workers: numbers of processes to compare.
        repeats: how often each number is run, alternately.
        counts: videos, expressions of a video, frames of a video.
        protocol, pred_format: see :func:`write_synthetic`.

    Raises:
        SystemExit: a run fails, or its figures depend on the number of processes.
    """
    tool = Path(__file__).resolve().parents[1] / 'tools/analysis_tools/eval_masks.py'
    times: dict[int, list[float]] = {number: [] for number in workers}
    with tempfile.TemporaryDirectory(dir=folder, prefix='eval_masks_') as name:
        root = Path(name)
        write_synthetic(root, *counts, (480, 854), protocol, pred_format)
        pred = root / ('pred.json' if pred_format == 'json' else 'pred')
        documents = set()
        for _ in range(repeats):
            for number in workers:
                before = cpu_seconds()
                run = subprocess.run(
                    [sys.executable, str(tool), '--protocol', protocol,
                     '--ann', str(root / 'ann'), '--pred', str(pred),
                     '--pred-format', pred_format, '--workers', str(number),
                     '--out', str(root / 'out.json')], capture_output=True, text=True,
                    env=dict(os.environ, OMP_NUM_THREADS='1'), check=False)
                if run.returncode:
                    raise SystemExit(run.stderr)
                documents.add((root / 'out.json').read_text())
                seconds, memory = re.search(r'([\d.]+) s, (peak memory .*)', run.stderr).groups()
                times[number].append(float(seconds))
                print(f'{number} worker{"s" if number > 1 else " "}: {seconds} s, '
                      f'{1000 * float(seconds) / math.prod(counts):.2f} ms a frame, '
                      f'{cpu_seconds() - before:.1f} s of CPU with the start, {memory}, '
                      f'load {os.getloadavg()[0]:.1f}', flush=True)
    if len(documents) != 1:
        raise SystemExit('expected the same figures for any number of processes, got others')
    best = statistics.median(times[workers[0]])
    for number in workers[1:]:
        print(f'{number} workers: {best / statistics.median(times[number]):.2f}x as fast as '
              f'{workers[0]} (medians of {repeats})')


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(description='Measure J and F')
    parser.add_argument('--rounds', type=int, default=25)
    parser.add_argument('--pairs', type=int, default=8, help='pairs of masks (default: 8)')
    parser.add_argument('--random', type=int, default=1000,
                        help='pairs of random masks to compare (default: 1000)')
    parser.add_argument('--eval-masks', metavar='DIR',
                        help='time eval_masks.py instead, on a synthetic set written below DIR')
    parser.add_argument('--workers', type=int, nargs='+', default=[1, 2])
    parser.add_argument('--repeats', type=int, default=1)
    parser.add_argument('--counts', type=int, nargs=3, default=[50, 16, 60],
                        metavar=('VIDEOS', 'EXPRESSIONS', 'FRAMES'))
    parser.add_argument('--protocol', choices=['mevis', 'long-rvos'], default='mevis')
    parser.add_argument('--pred-format', choices=['png', 'json'], default='png')
    args = parser.parse_args()
    cv2.setNumThreads(1)
    if args.eval_masks is not None:
        measure_eval_masks(args.eval_masks, args.workers, args.repeats, tuple(args.counts),
                           args.protocol, args.pred_format)
        return
    check_equal(args.random)
    measure_functions(args.rounds, args.pairs)


if __name__ == '__main__':
    main()
