"""Measures how long an annotation of MeViS's size takes to parse, and what it costs in memory.

A synthetic annotation in the official layout is written to a temporary folder, which is removed in
the end. It is parsed in a process of its own; then data-loading workers take samples from it.
Linux only, as the figures come from /proc.

Example:
    python dev/benchmark_parsing.py --videos 2000 --workers 4
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

from glus_mm.utils.masks import encode_mask

SIZE = (480, 854)
# What MeViS has on average: objects and expressions of a video, frames.
OBJECTS, EXPRESSIONS, FRAMES = 4, 14, 55


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description='Time and memory of parsing an annotation')
    parser.add_argument('--videos', type=int, default=2000, metavar='N',
                        help='number of videos (default: %(default)s, as MeViS)')
    parser.add_argument('--workers', type=int, default=4, metavar='N',
                        help='data-loading workers (default: %(default)s)')
    parser.add_argument('--plain', action='store_true',
                        help='also measure json.load of the same masks')
    parser.add_argument('--tmp', metavar='DIR',
                        help='where the temporary folder goes (default: the system\'s place)')
    parser.add_argument('--measure', metavar='WHAT', choices=('parse', 'plain'),
                        help=argparse.SUPPRESS)
    return parser.parse_args()


def mask_pool(rng: np.random.Generator, number: int = 400) -> list[str]:
    """RLEs of random blobs, as JSON; about 900 bytes each, as in MeViS."""
    pool = []
    while len(pool) < number:
        noise = rng.standard_normal((5, 8), dtype=np.float32)
        field = cv2.resize(noise, SIZE[::-1], interpolation=cv2.INTER_CUBIC)
        rle = encode_mask(field > rng.uniform(0.8, 1.6))
        if 500 < len(rle['counts']) < 1300:
            pool.append(json.dumps(rle))
    return pool


def write_annotation(root: Path, videos: int, seed: int = 0) -> int:
    """Write ``meta_expressions.json`` and ``mask_dict.json``.

    Returns:
        Number of expressions.
    """
    rng = np.random.default_rng(seed)
    pool, meta = mask_pool(rng), {}
    with open(root / 'mask_dict.json', 'w', encoding='ascii') as file:
        for number in range(videos):
            annos = [number * OBJECTS + i for i in range(OBJECTS)]
            for anno in annos:
                track = ', '.join('null' if rng.random() < 0.05 else pool[k]
                                  for k in rng.integers(len(pool), size=FRAMES))
                file.write(f'{"{" if anno == 0 else ", "}"{anno}": [{track}]')
            expressions = {}
            for k in range(EXPRESSIONS):
                chosen = sorted(rng.choice(OBJECTS, rng.integers(1, 3), replace=False).tolist())
                expressions[str(k)] = {
                    'exp': f'the thing number {k} that moves from here to there and back again',
                    'obj_id': chosen, 'anno_id': [annos[i] for i in chosen]}
            meta[f'{number:012x}'] = {
                'vid_id': number, 'height': SIZE[0], 'width': SIZE[1],
                'frames': [f'{i:05d}' for i in range(FRAMES)], 'expressions': expressions}
        file.write('}')
    (root / 'meta_expressions.json').write_text(json.dumps({'videos': meta}))
    return videos * EXPRESSIONS


def status(key: str, file: str = 'status', pid: int | str = 'self') -> float:
    """Read a figure of a process from /proc, in MB (1e6 bytes)."""
    for line in Path(f'/proc/{pid}/{file}').read_text().splitlines():
        if line.startswith(f'{key}:'):
            return int(line.split()[1]) * 1024 / 1e6
    raise ValueError(f'expected {key} in /proc/{pid}/{file}, got none')


def reset_peak() -> float:
    """Start a new measurement of the peak; returns the memory in use now, in MB."""
    Path('/proc/self/clear_refs').write_text('5')
    return status('VmRSS')


def measure_plain(root: Path) -> dict:
    """``json.load`` of the masks, which is what official loaders do."""
    before, start = reset_peak(), time.perf_counter()
    with open(root / 'mask_dict.json', encoding='utf-8') as file:
        masks = json.load(file)
    return dict(seconds=time.perf_counter() - start, peak=status('VmHWM') - before,
                kept=status('VmRSS') - before, masks=len(masks))


def measure_parse(root: Path, workers: int) -> dict:
    """Parse with ``MeViSDataset``, then take samples with data-loading workers."""
    from torch.utils.data import DataLoader

    from glus_mm.datasets import MeViSDataset

    pipeline = [dict(type='glus_mm.SampleContextQueryFrames'),
                dict(type='glus_mm.LoadRefVOSMasks'),
                lambda results: int(results['gt_masks'].sum())]
    before, start = reset_peak(), time.perf_counter()
    dataset = MeViSDataset(data_root=str(root), min_frames=4, pipeline=pipeline)
    figures = dict(seconds=time.perf_counter() - start, peak=status('VmHWM') - before,
                   kept=status('VmRSS') - before, before=before, videos=len(dataset))
    if not workers:
        return figures
    # Each worker gets every workers-th item.
    first = [(i, 0) for i in range(workers)]
    rest = [(i, 1) for i in range(len(dataset))]
    loader = DataLoader(dataset, batch_size=None, sampler=first + rest, num_workers=workers,
                        multiprocessing_context='fork', prefetch_factor=1)
    start = time.perf_counter()
    iterator = iter(loader)
    for count, _ in enumerate(iterator, 1):
        if count in (workers, len(first) + len(rest) - workers):
            pids = [worker.pid for worker in iterator._workers]
            figures['early' if count == workers else 'late'] = [
                [status(key, 'smaps_rollup', pid) for key in ('Pss', 'Private_Dirty')]
                for pid in ('self', *pids)]
    figures['rate'] = (len(first) + len(rest)) / (time.perf_counter() - start)
    return figures


def report(args: argparse.Namespace, root: Path, expressions: int) -> None:
    """Measure in processes of their own, and print."""
    size = os.path.getsize(root / 'mask_dict.json') / 1e6
    print(f'{args.videos} videos, {expressions} expressions, mask_dict.json of {size:.0f} MB')
    for what in ('parse', 'plain')[:1 + args.plain]:
        command = [sys.executable, __file__, '--measure', what, '--tmp', str(root),
                   '--workers', str(args.workers)]
        figures = json.loads(subprocess.run(
            command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1])
        name = 'MeViSDataset' if what == 'parse' else 'json.load of the masks'
        print(f'{name}: {figures["seconds"]:.1f} s; memory at the peak +{figures["peak"]:.0f} MB '
              f'({figures["peak"] / size:.2f} x the file), kept +{figures["kept"]:.0f} MB '
              f'({figures["kept"] / size:.2f} x)')
        if 'late' in figures:
            print(f'{args.workers} workers, {figures["rate"]:.0f} samples of masks a second; MB '
                  f'after the first sample and after about {args.videos}:')
            for i, (early, late) in enumerate(zip(figures['early'], figures['late'])):
                print(f'  {f"worker {i}" if i else "main    "}  PSS {early[0]:6.0f} -> '
                      f'{late[0]:6.0f}   private {early[1]:6.0f} -> {late[1]:6.0f}')
            total = [sum(row[0] for row in figures[key]) for key in ('early', 'late')]
            print(f'  all       PSS {total[0]:6.0f} -> {total[1]:6.0f}   (the process before '
                  f'parsing: RSS {figures["before"]:.0f})')


def main() -> None:
    """Measure."""
    args = parse_args()
    if args.measure == 'plain':
        print(json.dumps(measure_plain(Path(args.tmp))))
    elif args.measure == 'parse':
        print(json.dumps(measure_parse(Path(args.tmp), args.workers)))
    else:
        with tempfile.TemporaryDirectory(prefix='benchmark_parsing_', dir=args.tmp) as folder:
            report(args, Path(folder), write_annotation(Path(folder), args.videos))


if __name__ == '__main__':
    main()
