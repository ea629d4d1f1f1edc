"""Measure how much faster several processes test a data set whose videos are of uneven length.

A data set of MovingShapes videos is made, their frames repeated forward and backward up to lengths
between ``--min-frames`` and ``--max-frames`` (evenly on a logarithmic scale: many short ones, few
long ones). ``tools/test.py`` then tests it with one process and with several, in turns, so that
other work on the machine meets both alike. Each process has one thread. The time counts from the
first video to the last figure; the whole time of the command, imports and all, stands beside it.
So does the CPU time of the busiest process from the first video to the last figure: its ratio is
that of a machine with nothing else to do, up to shared caches and memory. The figures of all runs
must be the same, digit for digit. Example::

    python dev/benchmark_scale_out.py --repeats 3 --json outputs/scale_out.json
"""

import argparse
import json
import os
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from glus_mm.datasets.moving_shapes import write_split
from glus_mm.utils.balance import balance

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / 'configs' / 'glus' / 'glus_tiny_moving-shapes.py'
CHECKPOINT = ROOT / 'checkpoints' / 'glus_tiny_moving-shapes.pth'
PORT = '29517'


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description='Measure testing with several processes')
    parser.add_argument('--config', default=str(CONFIG), help='config (default: the shipped one)')
    parser.add_argument('--checkpoint', default=str(CHECKPOINT), help='checkpoint (likewise)')
    parser.add_argument('--processes', type=int, default=2, help='(default: %(default)s)')
    parser.add_argument('--videos', type=int, default=40, help='(default: %(default)s)')
    parser.add_argument('--min-frames', type=int, default=4, help='(default: %(default)s)')
    parser.add_argument('--max-frames', type=int, default=120, help='(default: %(default)s)')
    parser.add_argument('--expressions', type=int, default=2,
                        help='the most of a video (default: %(default)s)')
    parser.add_argument('--repeats', type=int, default=1, help='(default: %(default)s)')
    parser.add_argument('--seed', type=int, default=0, help='(default: %(default)s)')
    parser.add_argument('--json', metavar='F', help='write the measurements into this file')
    args = parser.parse_args()
    if not (args.processes > 1 and args.videos > 0 and args.repeats > 0 and args.expressions > 0
            and 1 <= args.min_frames <= args.max_frames):
        parser.error('expected at least 2 processes and 1 of the other numbers')
    return args


def make_videos(root: Path, args: argparse.Namespace) -> list[int]:
    """Write the data set below ``root/valid_u``; returns frames x expressions of each video."""
    folder = write_split(root, args.videos, args.seed, 'valid_u', mp4=False)
    meta = json.loads((folder / 'meta_expressions.json').read_text())
    masks = json.loads((folder / 'mask_dict.json').read_text())
    lengths = np.geomspace(args.min_frames, args.max_frames, args.videos).round().astype(int)
    np.random.default_rng(args.seed).shuffle(lengths)
    costs = []
    for length, (video_id, video) in zip(lengths.tolist(), meta['videos'].items()):
        names = video['frames']
        order = [*range(len(names)), *range(len(names) - 2, 0, -1)]
        places = [order[t % len(order)] for t in range(length)]
        video['frames'] = [f'{t:05d}' for t in range(length)]
        images = folder / 'JPEGImages' / video_id
        originals = images.rename(folder / f'originals_{video_id}')
        images.mkdir()
        for frame, place in zip(video['frames'], places):
            os.link(originals / f'{names[place]}.jpg', images / f'{frame}.jpg')
        # What an expression refers to, with all of its objects, each repeated once.
        ids = {str(i) for item in video['expressions'].values() for i in item['anno_id']}
        masks.update({key: [masks[key][place] for place in places] for key in ids})
        video['expressions'] = dict(list(video['expressions'].items())[:args.expressions])
        costs.append(length * len(video['expressions']))
    (folder / 'meta_expressions.json').write_text(json.dumps(meta))
    (folder / 'mask_dict.json').write_text(json.dumps(masks))
    return costs


def run_test(root: Path, processes: int, args: argparse.Namespace) -> dict:
    """Test once; returns seconds from the first video on, of the command, and of the CPUs."""
    work_dir = root / f'run_{processes}'
    shutil.rmtree(work_dir, ignore_errors=True)
    command = [sys.executable]
    if processes > 1:
        command += ['-m', 'torch.distributed.run', f'--nproc_per_node={processes}',
                    f'--master_port={PORT}']
    command += [str(ROOT / 'tools' / 'test.py'), args.config, args.checkpoint, '--work-dir',
                str(work_dir), '--dump', str(work_dir / 'figures.json'), '--cfg-options',
                f'test_dataloader.dataset.data_root={root / "valid_u"}']
    if processes > 1:
        command += ['--launcher', 'pytorch']
    env = dict(os.environ, OMP_NUM_THREADS='1', MKL_NUM_THREADS='1',
               PYTHONPATH=os.pathsep.join([str(ROOT), os.environ.get('PYTHONPATH', '')]))
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    done = subprocess.run(command, env=env, cwd=root, capture_output=True, text=True)
    wall = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(f'the test with {processes} processes failed:\n{done.stdout[-2000:]}'
                 f'{done.stderr[-4000:]}')
    line = re.search(r'tested \d+ videos in ([\d.]+) s, .* worked ([\d., ]+) s',
                     done.stdout + done.stderr)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return dict(processes=processes, seconds=float(line[1]), wall=wall, cpu=cpu,
                busy=max(map(float, line[2].split(','))), load=os.getloadavg()[0],
                figures=(work_dir / 'figures.json').read_text())


def main() -> None:
    """Measure in turns and print a table."""
    args = parse_args()
    with tempfile.TemporaryDirectory(prefix='scale_out_') as name:
        root = Path(name)
        costs = make_videos(root, args)
        runs = [run_test(root, processes, args) for _ in range(args.repeats)
                for processes in (1, args.processes)]
    if len({run.pop('figures') for run in runs}) > 1:
        sys.exit('the figures of the runs differ')
    shares = [sum(costs[i] for i in part) for part in balance(costs, args.processes)]
    in_turn = [sum(costs[rank::args.processes]) for rank in range(args.processes)]
    print(f'{args.videos} videos of {args.min_frames} to {args.max_frames} frames, {sum(costs)} '
          f'frames x expressions; {os.cpu_count()} CPUs, one thread per process')
    print(f'at most x{sum(costs) / max(shares):.2f} as they are shared out, '
          f'x{sum(costs) / max(in_turn):.2f} if the videos were dealt out in turn')
    print('| processes | first video to last figure, s | CPU of the busiest in it, s '
          '| whole command, s | its CPU, s | load |')
    print('|---:|---:|---:|---:|---:|---:|')
    for run in runs:
        print('| {processes} | {seconds:.1f} | {busy:.1f} | {wall:.1f} | {cpu:.1f} '
              '| {load:.1f} |'.format(**run))
    ratios = {key: [one[key] / many[key] for one, many in zip(runs[::2], runs[1::2])]
              for key in ('seconds', 'busy', 'wall')}
    median = {key: statistics.median(values) for key, values in ratios.items()}
    print(f'{args.processes} processes are x{median["seconds"]:.2f} as fast (by CPU time: '
          f'x{median["busy"]:.2f}; whole command: x{median["wall"]:.2f}), median of '
          f'{args.repeats}; the figures are the same')
    if args.json:
        path = Path(args.json)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(dict(vars(args), costs=costs, shares=shares, runs=runs,
                                        ratios=ratios), indent=1) + '\n')


if __name__ == '__main__':
    main()
