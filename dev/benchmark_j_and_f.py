"""Measure J and F against the plain way, and what a whole set takes: evaluate, compare, parse.

The plain way is how davis2017-evaluation works: the boundary of the whole mask with NumPy, dilated
with a disk by ``cv2.dilate``. Both run in one thread, alternately, on the same pairs of masks with
an object of about 10 % of the frame, and must agree to the last bit, also on random masks of odd
sizes. The others write a synthetic set below a folder, which is deleted afterwards.

Examples::

    python dev/benchmark_j_and_f.py
    python dev/benchmark_j_and_f.py --eval-masks /tmp --workers 1 2
    # A twentieth of Long-RVOS's test set, predictions as run lengths in one file
    python dev/benchmark_j_and_f.py --eval-masks /tmp --protocol long-rvos \\
        --pred-format json --counts 30 3 360
    # Two systems on a set of the size of MeViS; the annotation of its training set
    python dev/benchmark_j_and_f.py --compare /tmp --counts 140 14 80
    python dev/benchmark_j_and_f.py --parse /tmp --counts 2000 14 55 --workers 4
"""

import argparse
import json
import math
import multiprocessing
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from glus_mm.evaluation.functional import boundary_accuracy, region_similarity
from glus_mm.utils.masks import encode_mask, write_mask_png

SIZES = {(480, 854): (8, 2.78), (1080, 1920): (20, 42.3)}
"""Frames: how much faster F has to be, and what davis2017-evaluation took elsewhere, in ms."""
SIZE = (480, 854)
ROOT = Path(__file__).resolve().parents[1]
TOOL = ROOT / 'tools/analysis_tools/eval_masks.py'
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


def check_equal(pairs: Sequence[Pair]) -> None:
    """Compare both ways.

    Raises:
        SystemExit: they differ.
    """
    for gt, pred in pairs:
        found = region_similarity(gt, pred), boundary_accuracy(gt, pred)
        expected = plain_j(gt, pred), plain_f(gt, pred)
        if found != expected:
            raise SystemExit(f'expected {expected}, got {found} for masks of size {gt.shape}')


def measure_functions(rounds: int, num_pairs: int, num_random: int, largest: int = 301) -> None:
    """Print the table of J and F."""
    rng = np.random.default_rng(0)
    for _ in range(num_random):
        size = tuple(2 * rng.integers(0, largest // 2 + 1, 2) + 1)
        check_equal([(random_mask(size, rng), random_mask(size, rng))])
    print(f'bit-equal on {num_random} of {num_random} pairs of random masks with odd sides from 1 '
          f'to {largest}')
    print(f'ms per frame, one thread, medians of {rounds} rounds over {num_pairs} pairs of masks')
    print(f'{"":14}{"plain":>9}{"glus_mm":>9}{"faster":>9}{"goal":>7}{"official":>10}')
    for size, (goal, official) in SIZES.items():
        rng = np.random.default_rng(size)
        pairs = [(blob(size, 0.1, rng), blob(size, 0.1, rng)) for _ in range(num_pairs)]
        check_equal(pairs)
        area = np.mean([gt.mean() for gt, _ in pairs])
        functions = plain_f, boundary_accuracy, plain_j, region_similarity
        rows = []
        for _ in range(rounds):
            for function in functions:
                start = time.perf_counter()
                for gt, pred in pairs:
                    function(gt, pred)
                rows.append(1000 * (time.perf_counter() - start) / num_pairs)
        times = [statistics.median(rows[i::len(functions)]) for i in range(len(functions))]
        name = f'{size[0]}x{size[1]}'
        print(f'F {name:12}{times[0]:9.2f}{times[1]:9.3f}{times[0] / times[1]:8.1f}x'
              f'{goal:6d}x{official:10.2f}   object {100 * area:.1f} % of the frame')
        print(f'J {name:12}{times[2]:9.2f}{times[3]:9.3f}{times[2] / times[3]:8.1f}x')


class SyntheticSet:
    """A set of videos with objects that move, as many as expressions at most.

    Args:
        root: gets ``ann``.
        counts: videos, expressions of a video, frames of a video.
        protocol: ``'mevis'`` or ``'long-rvos'``, whose layout the annotation gets.
        objects: of a video.
    """

    def __init__(self, root: Path, counts: Sequence[int], protocol: str = 'mevis',
                 objects: int = 8) -> None:
        rng = np.random.default_rng(0)
        self.root, self.counts = root, counts
        self.frames = [f'{t:05d}' for t in range(counts[2])]
        self._shapes = [blob(SIZE, rng.uniform(0.03, 0.15), rng) for _ in range(12)]
        self._steps = [(int(dy), int(dx)) for dy, dx in rng.integers(-2, 3, (12, 2))]
        self.rle = lru_cache(12 * counts[2])(lambda *which: encode_mask(self.mask(*which)))
        videos, self.number = {}, min(objects, counts[1])
        (root / 'ann').mkdir(parents=True)
        with open(root / 'ann' / 'mask_dict.json', 'w', encoding='ascii') as file:
            for v in tqdm(range(counts[0]), desc='annotation', unit='video'):
                for place in range(self.number):
                    which = [((v + place) % 12, t) for t in range(counts[2])]
                    if protocol == 'mevis':
                        anno = v * self.number + place
                        file.write(f'{", " if anno else "{"}"{anno}": '
                                   f'{json.dumps([self.rle(*one) for one in which])}')
                        continue
                    folder = root / 'ann' / 'Annotations' / f'video{v:03d}' / str(place)
                    folder.mkdir(parents=True)
                    for frame, one in zip(self.frames, which):
                        write_mask_png(folder / f'{frame}.png', self.mask(*one))
                expressions = {str(e): {'exp': 'a shape', **(
                    {'obj_id': [e % self.number], 'anno_id': [v * self.number + e % self.number]}
                    if protocol == 'mevis' else {'obj_id': e % self.number, 'type': (
                        'static', 'dynamic', 'static+dynamic')[e % 3]})} for e in range(counts[1])}
                videos[f'video{v:03d}'] = {'frames': self.frames, 'expressions': expressions,
                                           'height': SIZE[0], 'width': SIZE[1]}
            file.write('}')
        (root / 'ann' / 'meta_expressions.json').write_text(json.dumps({'videos': videos}))
        self.videos = videos

    def mask(self, shape: int, t: int) -> np.ndarray:
        """A shape on frame ``t``, bool (H, W)."""
        dy, dx = self._steps[shape]
        return np.roll(self._shapes[shape], (t * dy, t * dx), (0, 1))

    def write_predictions(self, pred_format: str) -> Path:
        """Write ``pred``, or ``pred.json`` with run lengths: masks that are a bit off."""
        out = self.root / ('pred.json' if pred_format == 'json' else 'pred')
        content: dict = {}
        for v, video in enumerate(tqdm(self.videos, desc='predictions', unit='video')):
            for e in range(self.counts[1]):
                masks = (np.roll(self.mask((v + e % self.number) % 12, t), (e % 5, e % 7), (0, 1))
                         for t in range(self.counts[2]))
                if pred_format == 'json':
                    content.setdefault(video, {})[str(e)] = [encode_mask(mask) for mask in masks]
                    continue
                (out / video / str(e)).mkdir(parents=True)
                for frame, mask in zip(self.frames, masks):
                    write_mask_png(out / video / str(e) / f'{frame}.png', mask)
        if pred_format == 'json':
            out.write_text(json.dumps(content))
        return out

    def write_systems(self) -> None:
        """Write images, and the figures and masks of two systems, ``a`` and ``b``.

        The same bytes take as long to decode: images of the other videos are links to those of
        the first one, masks of the other expressions to those of the first one.
        """
        rng = np.random.default_rng(0)
        noise = cv2.GaussianBlur(rng.integers(0, 256, (*SIZE, 3), np.uint8), (9, 9), 0)
        first = (self.root / 'ann' / 'JPEGImages' / 'video000').absolute()
        first.mkdir(parents=True)
        for t, name in enumerate(self.frames):
            assert cv2.imwrite(str(first / f'{name}.jpg'), np.roll(noise, 2 * t, axis=1),
                               [cv2.IMWRITE_JPEG_QUALITY, 90])
        for video in list(self.videos)[1:]:
            first.with_name(video).symlink_to(first)
        for system in 'ab':
            document = dict(protocol='mevis', per_expression={}, per_frame={})
            for v, (video, entry) in enumerate(self.videos.items()):
                folder = self.root / system / video
                (folder / '0').mkdir(parents=True)
                for t, frame in enumerate(self.frames):
                    write_mask_png(folder / '0' / f'{frame}.png', self.mask(v % 12, t))
                for e in entry['expressions']:
                    if e != '0':
                        (folder / e).symlink_to('0')
                    values = rng.random(len(self.frames)).tolist()
                    keys, mean = ('J', 'F', 'J&F'), float(np.mean(values))
                    document['per_frame'][f'{video}_{e}'] = dict.fromkeys(keys, values)
                    document['per_expression'][f'{video}_{e}'] = dict(
                        dict.fromkeys(keys, mean), kind=None, has_target=True, predicted=True)
            (self.root / f'{system}.json').write_text(json.dumps(document))


def timed_run(*command: object, cwd: Path | None = None) -> tuple[str, float, float]:
    """Run a tool, one thread a process; what it prints, its seconds, and those of its CPUs.

    Raises:
        SystemExit: it fails.
    """
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    env = dict(os.environ, OMP_NUM_THREADS='1', MKL_NUM_THREADS='1',
               PYTHONPATH=os.pathsep.join([str(ROOT), os.environ.get('PYTHONPATH', '')]))
    run = subprocess.run([sys.executable, *map(str, command)], stdout=subprocess.PIPE, cwd=cwd,
                         stderr=subprocess.STDOUT, text=True, env=env, check=False)
    seconds, after = time.monotonic() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if run.returncode:
        raise SystemExit(run.stdout)
    return run.stdout, seconds, (
        after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def measure_eval_masks(root: Path, workers: Sequence[int], repeats: int, counts: Sequence[int],
                       protocol: str = 'mevis', pred_format: str = 'png') -> None:
    """Time eval_masks.py with some numbers of processes, each so often, alternately.

    Raises:
        SystemExit: a run fails, or its figures depend on the number of processes.
    """
    times: dict[int, list[float]] = {number: [] for number in workers}
    pred, documents = SyntheticSet(root, counts, protocol).write_predictions(pred_format), set()
    for number in list(workers) * repeats:
        said, _, cpu = timed_run(
            TOOL, '--protocol', protocol, '--ann', root / 'ann', '--pred', pred, '--pred-format',
            pred_format, '--workers', number, '--out', root / 'out.json')
        documents.add((root / 'out.json').read_text())
        seconds, memory = re.search(r'([\d.]+) s, (peak memory .*)', said).groups()
        times[number].append(float(seconds))
        print(f'{number} worker{"s" if number > 1 else " "}: {seconds} s, '
              f'{1000 * float(seconds) / math.prod(counts):.2f} ms a frame, {cpu:.1f} s of CPU '
              f'with the start, {memory}, load {os.getloadavg()[0]:.1f}', flush=True)
    if len(documents) != 1:
        raise SystemExit('expected the same figures for any number of processes, got others')
    best = statistics.median(times[workers[0]])
    for number in workers[1:]:
        print(f'{number} workers: {best / statistics.median(times[number]):.2f}x as fast as '
              f'{workers[0]} (medians of {repeats})')


def measure_compare(root: Path, counts: Sequence[int]) -> None:
    """Time a comparison of two systems with intervals, attributes and a report."""
    SyntheticSet(root, counts, objects=5).write_systems()
    _, seconds, cpu = timed_run(
        TOOL, '--protocol', 'mevis', '--ann', root / 'ann', '--compare', root / 'a.json',
        root / 'b.json', '--masks', root / 'a', root / 'b', '--report', root / 'report.html',
        '--out', root / 'out.json')
    print(f'{counts[0]} videos, {counts[0] * counts[1]} expressions, {counts[2]} frames at '
          f'{SIZE[0]}p: {seconds:.1f} s with the start of the program, {cpu:.1f} s of one core; '
          f'report of {(root / "report.html").stat().st_size / 1e6:.1f} MB')


def memory(key: str, file: str = 'status', pid: int | str = 'self') -> float:
    """Read a figure of a process from /proc, in MB (1e6 bytes)."""
    return int(re.search(rf'^{key}:\s+(\d+) kB', Path(f'/proc/{pid}/{file}').read_text(),
                         re.MULTILINE)[1]) * 1024 / 1e6


def parse(root: Path, workers: int) -> None:
    """Parse with ``json.load`` and with ``MeViSDataset``; then workers take samples. Linux only."""
    from torch.utils.data import DataLoader

    from glus_mm.datasets import MeViSDataset

    def plain() -> object:
        with open(root / 'ann' / 'mask_dict.json', encoding='utf-8') as file:
            return json.load(file)

    def ours() -> MeViSDataset:
        return MeViSDataset(data_root=str(root / 'ann'), min_frames=4, pipeline=[
            dict(type='glus_mm.SampleContextQueryFrames'), dict(type='glus_mm.LoadRefVOSMasks'),
            lambda results: int(results['gt_masks'].sum())])

    size = os.path.getsize(root / 'ann' / 'mask_dict.json') / 1e6
    print(f'mask_dict.json of {size:.0f} MB; memory of the process before: '
          f'{memory("VmRSS"):.0f} MB', flush=True)
    def measure(name: str, run: Callable[[], Any]) -> None:
        Path('/proc/self/clear_refs').write_text('5')  # begins to measure the peak
        before, start = memory('VmRSS'), time.perf_counter()
        dataset = run()
        seconds = time.perf_counter() - start
        peak, kept = memory('VmHWM') - before, memory('VmRSS') - before
        print(f'{name}: {seconds:.1f} s; memory at the peak +{peak:.0f} MB ({peak / size:.2f} x '
              f'the file), kept +{kept:.0f} MB ({kept / size:.2f} x)', flush=True)
        if not workers or run is plain:
            return
        # Each worker gets every workers-th item.
        items = [(i, 0) for i in range(workers)] + [(i, 1) for i in range(len(dataset))]
        iterator = iter(DataLoader(dataset, batch_size=None, sampler=items, num_workers=workers,
                                   multiprocessing_context='fork', prefetch_factor=1))
        start = time.perf_counter()
        for count, _ in enumerate(iterator, 1):
            if count in (workers, len(dataset)):
                rows = [[memory(key, 'smaps_rollup', pid) for key in ('Pss', 'Private_Dirty')]
                        for pid in ('self', *(w.pid for w in iterator._workers))]
                print(f'after {count} samples, {count / (time.perf_counter() - start):.0f} a '
                      'second: ' + ', '.join(
                          f'{f"worker {i}" if i else "main"} {pss:.0f} MB (own {own:.0f})'
                          for i, (pss, own) in enumerate(rows))
                      + f', all {sum(pss for pss, _ in rows):.0f} MB', flush=True)

    for case in (('MeViSDataset', ours), ('json.load of the masks', plain)):
        process = multiprocessing.get_context('fork').Process(target=measure, args=case)
        process.start()
        process.join()
        if process.exitcode:
            raise SystemExit(f'{case[0]}: failed, see above')


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(description='Measure J and F')
    parser.add_argument('--rounds', type=int, default=25)
    parser.add_argument('--pairs', type=int, default=8, help='pairs of masks (default: 8)')
    parser.add_argument('--random', type=int, default=1000,
                        help='pairs of random masks to compare (default: 1000)')
    group = parser.add_mutually_exclusive_group()
    for name, what in (('eval-masks', 'time eval_masks.py'), ('parse', 'measure an annotation'),
                       ('compare', 'time eval_masks.py --compare')):
        group.add_argument(f'--{name}', metavar='DIR',
                           help=f'{what} instead, on a synthetic set written below DIR')
    parser.add_argument('--workers', type=int, nargs='+', default=[1, 2])
    parser.add_argument('--repeats', type=int, default=1)
    parser.add_argument('--counts', type=int, nargs=3, default=[50, 16, 60],
                        metavar=('VIDEOS', 'EXPRESSIONS', 'FRAMES'))
    parser.add_argument('--protocol', choices=['mevis', 'long-rvos'], default='mevis')
    parser.add_argument('--pred-format', choices=['png', 'json'], default='png')
    args = parser.parse_args()
    cv2.setNumThreads(1)
    place = args.eval_masks or args.compare or args.parse
    if place is None:
        measure_functions(args.rounds, args.pairs, args.random)
        return
    with tempfile.TemporaryDirectory(dir=place, prefix='benchmark_') as name:
        if args.eval_masks:
            measure_eval_masks(Path(name), args.workers, args.repeats, args.counts, args.protocol,
                               args.pred_format)
        elif args.compare:
            measure_compare(Path(name), args.counts)
        else:
            SyntheticSet(Path(name), args.counts, objects=4)
            parse(Path(name), max(args.workers))


if __name__ == '__main__':
    main()
