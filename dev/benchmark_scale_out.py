"""Measure how much faster several processes test a data set whose videos are of uneven length.

A data set of MovingShapes videos in slow motion is made and cut to lengths between
``--min-frames`` and ``--max-frames`` (evenly on a logarithmic scale: many short ones, few long
ones). ``tools/test.py`` then tests it with one process and with several, in turns, so that
other work on the machine meets both alike. Each process has one thread. The time counts from the
first video to the last figure; the whole time of the command, imports and all, stands beside it.
So does the CPU time of the busiest process from the first video to the last figure: its ratio is
that of a machine with nothing else to do, up to shared caches and memory. The figures of all runs
must be the same, digit for digit. Example::

    python dev/benchmark_scale_out.py --repeats 3
"""

import argparse
import json
import os
import re
import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np
from benchmark_j_and_f import ROOT, timed_run

from glus_mm.datasets.moving_shapes import write_split
from glus_mm.utils.balance import balance

MODEL = (ROOT / 'configs/glus/glus_tiny_moving-shapes.py',
         ROOT / 'checkpoints/glus_tiny_moving-shapes.pth')
PORT, SEED = 29517, 0
COLUMNS = {'seconds': 'first video to last figure, s', 'busy': 'CPU of the busiest in it, s',
           'wall': 'whole command, s', 'cpu': 'its CPU, s', 'load': 'load'}


def make_videos(root: Path, args: argparse.Namespace) -> list[int]:
    """Write the data set below ``root/valid_u``; returns frames x expressions of each video."""
    folder = write_split(root, args.videos, SEED, 'valid_u', mp4=False,
                         num_frames=max(args.max_frames, 12))
    meta = json.loads((folder / 'meta_expressions.json').read_text())
    masks = json.loads((folder / 'mask_dict.json').read_text())
    lengths = np.geomspace(args.min_frames, args.max_frames, args.videos).round().astype(int)
    np.random.default_rng(SEED).shuffle(lengths)
    costs = []
    for length, video in zip(lengths.tolist(), meta['videos'].values()):
        video['frames'] = video['frames'][:length]
        for item in video['expressions'].values():
            masks.update({str(i): masks[str(i)][:length] for i in item['anno_id']})
        video['expressions'] = dict(list(video['expressions'].items())[:args.expressions])
        costs.append(length * len(video['expressions']))
    (folder / 'meta_expressions.json').write_text(json.dumps(meta))
    (folder / 'mask_dict.json').write_text(json.dumps(masks))
    return costs


def run_test(root: Path, processes: int) -> dict:
    """Test once; returns seconds from the first video on, of the command, and of the CPUs."""
    figures = root / 'figures.json'
    launch = [] if processes == 1 else [
        '-m', 'torch.distributed.run', f'--nproc_per_node={processes}', f'--master_port={PORT}']
    said, wall, cpu = timed_run(
        *launch, ROOT / 'tools' / 'test.py', *MODEL, '--work-dir', root / 'run', '--dump', figures,
        '--cfg-options', f'test_dataloader.dataset.data_root={root / "valid_u"}',
        *(['--launcher', 'pytorch'] if launch else []), cwd=root)
    line = re.search(r'tested \d+ videos in ([\d.]+) s, .* worked ([\d., ]+) s', said)
    return dict(seconds=float(line[1]), busy=max(map(float, line[2].split(','))), wall=wall,
                cpu=cpu, load=os.getloadavg()[0], figures=figures.read_text())


def main() -> None:
    """Measure in turns and print a table."""
    parser = argparse.ArgumentParser(description='Measure testing with several processes')
    for name, value, what in (
            ('processes', 2, 'of the test'), ('videos', 40, 'of the data set'),
            ('min-frames', 4, 'of a video'), ('max-frames', 120, 'of a video'),
            ('expressions', 2, 'the most of a video'), ('repeats', 1, 'of each test')):
        parser.add_argument(f'--{name}', type=int, default=value,
                            help=f'{what} (default: %(default)s)')
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix='scale_out_') as name:
        costs = make_videos(Path(name), args)
        runs = [(processes, run_test(Path(name), processes)) for _ in range(args.repeats)
                for processes in (1, args.processes)]
    if len({run.pop('figures') for _, run in runs}) > 1:
        sys.exit('the figures of the runs differ')
    shared = max(sum(costs[i] for i in part) for part in balance(costs, args.processes))
    in_turn = max(sum(costs[rank::args.processes]) for rank in range(args.processes))
    print(f'{args.videos} videos of {args.min_frames} to {args.max_frames} frames, {sum(costs)} '
          f'frames x expressions; {os.cpu_count()} CPUs, one thread per process')
    print(f'at most x{sum(costs) / shared:.2f} as they are shared out, x{sum(costs) / in_turn:.2f} '
          'if the videos were dealt out in turn')
    print(f'| processes | {" | ".join(COLUMNS.values())} |\n|---:|' + '---:|' * len(COLUMNS))
    for processes, run in runs:
        print(f'| {processes} | ' + ' | '.join(f'{run[key]:.1f}' for key in COLUMNS) + ' |')
    seconds, busy, wall = (statistics.median(
        one[key] / many[key] for (_, one), (_, many) in zip(runs[::2], runs[1::2]))
        for key in ('seconds', 'busy', 'wall'))
    print(f'{args.processes} processes are x{seconds:.2f} as fast (by CPU time: x{busy:.2f}; whole '
          f'command: x{wall:.2f}), median of {args.repeats}; the figures are the same')


if __name__ == '__main__':
    main()
