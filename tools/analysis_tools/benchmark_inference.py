"""Measures inference: expression-frames per second, where the time goes, memory, and agreement.

Models with random weights at the sizes of real ones, changed so that every step says ``[SEG]`` and
masks are neither empty nor full. Two schedules of work take turns on the same video: the official
one, in which everything is computed anew for each expression and frame, and ours. Their masks are
compared. Examples::

    python tools/analysis_tools/benchmark_inference.py --size small --expressions 8
    python tools/analysis_tools/benchmark_inference.py --size tiny --dtype float64
    python tools/analysis_tools/benchmark_inference.py --size tiny --table
    python tools/analysis_tools/benchmark_inference.py --size tiny --memory-frames 300 10000
    python tools/analysis_tools/benchmark_inference.py --size tiny --live --frames 300
    python tools/analysis_tools/benchmark_inference.py --size tiny --videos 16 --expressions 1
    python tools/analysis_tools/benchmark_inference.py --size 7b --device cuda --dtype bfloat16 \\
        --expressions 8 --official-expressions 1 --json outputs/benchmark_inference_7b.json
    python tools/analysis_tools/benchmark_inference.py --size 7b --device cuda --alone \\
        --set llm_bits=4
"""

import argparse
import ast
import contextlib
import json
import sys
import tempfile
import time
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from inference_benchmark import (
    PARTS,
    Agreement,
    Run,
    build_model,
    emit_seg_always,
    interleave,
    make_frames,
    make_sample,
)
from inference_benchmark.operations import count_operations
from inference_benchmark.runs import SHAPE, measure_memory, write_video
from train_benchmark.model import run_alone, write_figures

from glus_mm.models import GLUS
from glus_mm.models.propagators.live_session import LiveSession
from glus_mm.video import ArrayReader, VideoFileReader

FOREGROUND = (0.05, 0.95)
TABLE_EXPRESSIONS = (1, 2, 4, 8, 16)
TABLE_FRAMES = (12, 60, 250, 1000)


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description='Cost of inference')
    parser.add_argument('--size', choices=('tiny', 'small', '7b'), default='small')
    parser.add_argument('--frames', type=int, default=24, metavar='T')
    parser.add_argument('--expressions', type=int, default=8, metavar='E')
    parser.add_argument('--official-expressions', type=int, metavar='N',
                        help='measure the official schedule on N of the E expressions only: it '
                             'shares nothing, so that each costs the same (default: all)')
    parser.add_argument('--shape', type=int, nargs=2, default=(480, 854), metavar=('H', 'W'),
                        help='size of the frames (default: 480 854)')
    parser.add_argument('--device', default='cpu', help='cpu, cuda, cuda:1 (default: %(default)s)')
    parser.add_argument('--dtype', choices=('float32', 'float64', 'bfloat16', 'float16'),
                        help='(default: bfloat16 on a GPU, float32 on a CPU)')
    parser.add_argument('--backend', choices=('sam2', 'transformers'), default='sam2',
                        help='code of the mask head (default: %(default)s)')
    parser.add_argument('--set', nargs='*', default=[], metavar='KEY=VALUE',
                        help='fields of test_cfg for our schedule, such as window_stride=4')
    parser.add_argument('--seconds', type=float, metavar='S',
                        help='stop where both schedules are equally far and took so long together')
    parser.add_argument('--alone', action='store_true',
                        help='our schedule alone: first as it is shipped, nothing watched, then '
                             'by part; with --set compile=True or llm_bits=4 what these give')
    parser.add_argument('--table', action='store_true',
                        help='our schedule alone over numbers of expressions and of frames, with '
                             'at most 100 x --frames masks in the rows of long videos')
    parser.add_argument('--operations', action='store_true',
                        help='only count the operations of a mask in the steady state, by part')
    parser.add_argument('--videos', type=int, metavar='N',
                        help='our schedule on N videos of --expressions each, one by one and all '
                             'at once')
    parser.add_argument('--live', action='store_true',
                        help='latency of a live source of --frames frames')
    parser.add_argument('--memory-frames', type=int, nargs='+', metavar='T',
                        help='peak memory of processes that segment video files of so many frames')
    parser.add_argument('--json', metavar='FILE', help='write the figures there, too')
    parser.add_argument('--measure-memory', metavar='VIDEO', help=argparse.SUPPRESS)
    args = parser.parse_args()
    for name in ('frames', 'expressions'):
        if getattr(args, name) < 1:
            parser.error(f'expected --{name} of at least 1, got {getattr(args, name)}')
    if args.official_expressions is None:
        args.official_expressions = args.expressions
    if not 1 <= args.official_expressions <= args.expressions:
        parser.error(f'expected --official-expressions in 1..{args.expressions}, '
                     f'got {args.official_expressions}')
    if args.device.startswith('cuda') and not torch.cuda.is_available():
        parser.error(f'expected a device that is here, got --device {args.device}: no CUDA')
    if args.dtype is None:
        args.dtype = 'bfloat16' if args.device.startswith('cuda') else 'float32'
    try:
        args.options = {key: ast.literal_eval(value)
                        for key, value in (item.split('=', 1) for item in args.set)}
    except (ValueError, SyntaxError) as error:
        parser.error(f'expected --set KEY=VALUE with a Python value, got {args.set}: {error}')
    return args


def prepared_model(args: argparse.Namespace, expressions: int) -> GLUS:
    """The model of the benchmark, calibrated."""
    built_with = {f'test_cfg.{name}': args.options[name] for name in ('compile', 'llm_bits')
                  if name in args.options}
    model = build_model(args.size, args.dtype, args.device, built_with).prepare()
    emit_seg_always(model, make_frames(2, args.shape), expressions)
    if args.backend == 'sam2':
        return model
    other = build_model(args.size, args.dtype, args.device, dict(
        built_with, **{'mask_head.backend': args.backend})).prepare()
    other.load_state_dict(model.state_dict())
    return other


def figures_of(run: Run) -> dict:
    """What a run gives."""
    timer, frames = run.timer, len(run.frames)
    return dict(
        frames=frames, masks=run.count, wall_s=timer.wall, cpu_s=timer.cpu,
        per_second=run.count / timer.wall, per_cpu_second=run.count / timer.cpu,
        parts_s=timer.seconds, images_per_frame={k: v / frames for k, v in timer.images.items()},
        seg_share=run.count_seg / run.count, foreground=run.foreground / run.count)


def compare(args: argparse.Namespace) -> dict:
    """Let both schedules take turns, and compare them."""
    model = prepared_model(args, args.expressions)
    frames = make_frames(args.frames, args.shape)
    official = Run(model, frames, args.official_expressions, {}, True, official=True)
    ours = Run(model, frames, args.expressions, args.options, True)
    for run in (official, ours):  # not timed: what libraries set up at first
        Run(model, frames[:1], 1, {} if run is official else args.options, False,
                 run is official).step()

    def say(runs: list[Run]) -> None:
        print('\r' + ', '.join(f'{run.count}/{run.total} masks in {run.timer.wall:.0f} s'
                               for run in runs), end='', file=sys.stderr, flush=True)

    interleave([official, ours], args.seconds, say)
    print(file=sys.stderr)
    agreement = Agreement.of(ours.outcomes, official.outcomes)
    figures = dict(official=figures_of(official), ours=figures_of(ours))
    figures['ratio'] = figures['ours']['per_second'] / figures['official']['per_second']
    figures['ratio_cpu'] = figures['ours']['per_cpu_second'] / figures['official'][
        'per_cpu_second']
    figures['agreement'] = asdict(agreement)
    if args.device.startswith('cuda'):
        figures['ours'].update(unwatched(model, frames, args))
    figures['failures'] = []
    if not args.options.keys() - {'prefetch', 'max_expressions', 'feature_cache'}:
        figures['failures'] = [line for name in ('official', 'ours')
                               for line in seg_failures(name, figures[name])]
        if args.dtype in ('float32', 'float64') and not agreement.holds(args.dtype == 'float64'):
            figures['failures'].append(
                f'expected masks that agree, got: {"; ".join(agreement.lines())}')
    print_comparison(figures, agreement, args)
    return figures


@torch.inference_mode()
def unwatched(model: GLUS, frames: list, args: argparse.Namespace) -> dict[str, float]:
    """Our schedule as users get it: frames are prepared ahead, and no part waits for another.

    Returns:
        ``plain_per_second``, expression-frames per second from opening the video file to the last
        mask on the host; ``plain_cpu_ms`` and ``main_cpu_ms`` of a mask, in all threads and in
        the one that computes; and on a GPU ``device_peak_gb``, with the weights.
    """
    cuda = args.device.startswith('cuda')
    model.test_cfg = replace(model.test_cfg, **{'prefetch': 2, **args.options})
    if cuda:
        torch.cuda.reset_peak_memory_stats()
        torch.cuda.synchronize()
    with tempfile.TemporaryDirectory() as folder:
        video = Path(folder) / 'video.mp4'
        write_video(video, frames, len(frames))
        clocks = time.perf_counter, time.process_time, time.thread_time
        start = [clock() for clock in clocks]
        with contextlib.closing(VideoFileReader(video)) as reader:
            session = model.init_session(reader, make_sample(args.expressions))
            count = sum(len(pred.masks.cpu()) for _, _, pred in model.segment(session))
        wall, cpu, main = (clock() - begin for clock, begin in zip(clocks, start))
    figures = dict(plain_per_second=count / wall, plain_cpu_ms=1e3 * cpu / count,
                   main_cpu_ms=1e3 * main / count)
    if cuda:
        figures['device_peak_gb'] = torch.cuda.max_memory_allocated() / 1e9
    return figures


def alone(args: argparse.Namespace) -> dict:
    """Our schedule alone, without the comparison."""
    cuda = args.device.startswith('cuda')
    model = prepared_model(args, args.expressions)
    frames = make_frames(args.frames, args.shape)
    if cuda:
        print(f'peak device memory until the first frame: '
              f'{torch.cuda.max_memory_allocated() / 1e9:.2f} GB, '
              f'then held: {torch.cuda.memory_allocated() / 1e9:.2f} GB')
    start = time.perf_counter()
    # A short video: what libraries and compilers set up at first.
    unwatched(model, frames[:model.test_cfg.window + 2], args)
    warm_up = time.perf_counter() - start
    figures = unwatched(model, frames, args)
    run = Run(model, frames, args.expressions, args.options, False)
    while run.step():
        pass
    figures = dict(figures_of(run), warm_up_s=warm_up, **figures)
    device = torch.cuda.get_device_name(args.device) if cuda else 'cpu'
    print(f'size {args.size}, {args.dtype}, {device}, {args.frames} frames '
          f'{args.shape[0]} x {args.shape[1]}, {args.expressions} expressions, '
          f'options {args.options}, torch {torch.__version__}')
    print(f'expression-frames per second: {figures["plain_per_second"]:.2f}, and '
          f'{figures["per_second"]:.2f} while parts are watched; first frames {warm_up:.1f} s')
    print(f'CPU ms per mask: {figures["plain_cpu_ms"]:.2f}, of which {figures["main_cpu_ms"]:.2f} '
          'in the thread that computes')
    for part in PARTS:
        print(f'  {part}, ms per mask: {1e3 * figures["parts_s"][part] / run.count:.2f}')
    if cuda:
        print(f'peak device memory: {figures["device_peak_gb"]:.2f} GB')
    print(f'share of steps with [SEG] {figures["seg_share"]:.3f}, mean foreground '
          f'{figures["foreground"]:.3f}')
    found = seg_failures('ours', figures)
    return dict(ours=figures, device=device, failures=found)


def seg_failures(name: str, entry: dict) -> list[str]:
    """What a run with random weights must show to be worth measuring, and does not."""
    found = []
    if entry['seg_share'] != 1.0:
        found.append(f'{name}: expected [SEG] at every step, got {entry["seg_share"]:.3f}')
    if not FOREGROUND[0] <= entry['foreground'] <= FOREGROUND[1]:
        found.append(f'{name}: expected a mean foreground in {FOREGROUND}, '
                     f'got {entry["foreground"]:.3f}')
    return found


def print_comparison(figures: dict, agreement: Agreement, args: argparse.Namespace) -> None:
    """Print a table with a column for each schedule."""
    model = f'{args.size}, {args.dtype}, {args.device}, {torch.get_num_threads()} threads'
    print(f'size {model}, {args.frames} frames {args.shape[0]} x {args.shape[1]}, '
          f'{args.expressions} expressions (official schedule: {args.official_expressions}), '
          f'torch {torch.__version__}')
    both = [figures['official'], figures['ours']]
    print(f'{"":34}{"official":>12}{"ours":>12}')

    def row(name: str, value, digits: str = '.3f') -> None:
        print(f'{name:34}' + ''.join(f'{value(entry):>12{digits}}' for entry in both))

    row('masks', lambda e: e['masks'], 'd')
    row('frames', lambda e: e['frames'], 'd')
    row('expression-frames per second', lambda e: e['per_second'])
    row('expression-frames per CPU second', lambda e: e['per_cpu_second'])
    for part in PARTS:
        row(f'  {part}, ms per mask', lambda e, part=part: 1e3 * e['parts_s'][part] / e['masks'],
            '.1f')
    for encoder in both[0]['images_per_frame']:
        row(f'images per frame, {encoder}', lambda e, k=encoder: e['images_per_frame'][k])
    row('share of steps with [SEG]', lambda e: e['seg_share'])
    row('mean foreground', lambda e: e['foreground'])
    if 'plain_per_second' in both[1]:
        print(f'ours as shipped, nothing watched: {both[1]["plain_per_second"]:.2f} '
              f'expression-frames per second, peak device memory '
              f'{both[1]["device_peak_gb"]:.2f} GB')
    print(f'ratio: {figures["ratio"]:.2f} by wall time, {figures["ratio_cpu"]:.2f} by CPU time')
    for line in agreement.lines():
        print(line)


def table(args: argparse.Namespace) -> dict:
    """Our schedule over numbers of expressions and of frames."""
    model = prepared_model(args, max(TABLE_EXPRESSIONS))
    sizes = [(e, TABLE_FRAMES[0]) for e in TABLE_EXPRESSIONS] + [
        (e, t) for e in (1, 4) for t in TABLE_FRAMES[1:] if t * e <= args.frames * 100]
    frames = make_frames(max(length for _, length in sizes), args.shape)
    Run(model, frames[:2], 2, args.options, False).step()
    rows = []
    print(f'{"expressions":>12}{"frames":>8}{"seconds":>10}{"CPU s":>10}'
          f'{"CPU ms per mask":>17}{"images per frame":>18}')
    for expressions, length in sizes:
        run = Run(model, frames[:length], expressions, args.options, False)
        while run.step():
            pass
        figure = figures_of(run)
        images = figure['images_per_frame']
        print(f'{expressions:12}{length:8}{figure["wall_s"]:10.2f}{figure["cpu_s"]:10.2f}'
              f'{1e3 * figure["cpu_s"] / run.count:17.1f}'
              f'{images["vision tower"]:10.2f} +{images["SAM-2 encoder"]:5.2f}', flush=True)
        rows.append(dict(figure, expressions=expressions))
    return dict(table=rows, failures=[])


@torch.inference_mode()
def several_videos(args: argparse.Namespace) -> dict:
    """Videos one by one and all at once; the CPU time hardly depends on other work."""
    model = prepared_model(args, args.expressions)
    videos = [make_frames(args.frames, args.shape, seed) for seed in range(args.videos)]
    figures, masks = {}, {}
    for name, tracks in (('one by one', 1), ('at once', args.videos * args.expressions)):
        model.test_cfg = replace(model.test_cfg, **{
            'max_tracks': tracks, 'max_expressions': max(tracks, 16), **args.options})

        def opened(frames: list):
            return model.init_session(ArrayReader(frames), make_sample(args.expressions)), None

        wall, cpu, found = time.perf_counter(), time.process_time(), {}
        for video, item in model.segment_together(
                (i, args.expressions, partial(opened, frames)) for i, frames in enumerate(videos)):
            if isinstance(item, Exception):
                raise item
            if item is not None:
                found.update(((video, e, item[0]), mask.cpu())
                             for e, mask in zip(item[1], item[2].masks))
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        figures[name] = dict(masks=len(found), wall_s=wall, cpu_s=cpu)
        masks[name] = found
        print(f'{args.videos} videos {name}: {len(found) / cpu:.1f} masks per CPU second, '
              f'{len(found) / wall:.1f} per second', flush=True)
    other = sum(int((mask != masks['at once'][key]).sum())
                for key, mask in masks['one by one'].items())
    ratio = figures['one by one']['cpu_s'] / figures['at once']['cpu_s']
    print(f'ratio: {ratio:.2f} by CPU time; {other} pixels differ')
    found = [f'expected masks that are identical, got {other} other pixels'] * (
        bool(other) and args.dtype == 'float64')
    return dict(videos=figures, ratio=ratio, pixels=other, failures=found)


@torch.inference_mode()
def live(args: argparse.Namespace) -> dict:
    """Latency of a live source, frame by frame; by CPU time it hardly depends on other work."""
    model = prepared_model(args, args.expressions)
    model.test_cfg = replace(model.test_cfg, **args.options)
    session = LiveSession(model)
    for text in make_sample(args.expressions).expressions:
        session.add(text)
    seconds = []
    for frame in make_frames(args.frames, args.shape):
        wall, cpu = time.perf_counter(), time.process_time()
        session.step(frame).masks.cpu()
        seconds.append((time.perf_counter() - wall, time.process_time() - cpu))
    figures = {}
    for name, values in zip(('wall', 'CPU'), np.array(seconds).T * 1e3):
        first, (half, most) = values[0], np.percentile(values[1:], (50, 95))
        figures[name] = dict(first_ms=first, p50_ms=half, p95_ms=most)
        print(f'{name} ms: first mask {first:.1f}, then p50 {half:.1f}, p95 {most:.1f}, ratio '
              f'{most / half:.2f}')
    return dict(live=figures, failures=[])


def operations(args: argparse.Namespace) -> dict:
    """Operations of a mask by part; nothing is measured."""
    counts = count_operations(args.size, args.expressions)
    print(f'GFLOP of a mask, size {args.size}, {args.expressions} expressions')
    print(f'{"":20}' + ''.join(f'{side:>12}' for side in counts))
    for part in counts['official']:
        print(f'{part:20}' + ''.join(f'{counts[side][part]:12.1f}' for side in counts))
    totals = [sum(parts.values()) for parts in counts.values()]
    print(f'{"all":20}' + ''.join(f'{total:12.1f}' for total in totals)
          + '   ratios ' + ' '.join(f'{totals[0] / total:.2f}' for total in totals[1:]))
    return dict(gflop_per_mask=counts, failures=[])


def memory(args: argparse.Namespace) -> dict:
    """Peak memory of one process for each length of video."""
    figures = {}
    with tempfile.TemporaryDirectory() as folder:
        for length in args.memory_frames:
            video = Path(folder) / f'{length}.mp4'
            write_video(video, make_frames(50, SHAPE), length)
            figures[length] = run_alone(
                __file__, '--size', args.size, '--expressions', args.expressions, '--device',
                args.device, '--dtype', args.dtype, '--set', *args.set, '--measure-memory', video)
            print(f'{length} frames: ' + ', '.join(
                f'{name} {value:.4g}' for name, value in figures[length].items()), flush=True)
    least, most = (figures[pick(figures)]['peak_gb'] for pick in (min, max))
    print(f'peak of the longest video is {most / least:.3f} x that of the shortest')
    return dict(memory=figures, growth=most / least, failures=[])


def main() -> int:
    """Measure; returns 1 where something that must hold does not."""
    args = parse_args()
    if args.measure_memory:
        model = prepared_model(args, args.expressions)
        print(json.dumps(measure_memory(model, args.measure_memory, args.expressions)))
        return 0
    measure = (several_videos if args.videos else live if args.live
               else memory if args.memory_frames else table if args.table
               else operations if args.operations else alone if args.alone else compare)
    figures = measure(args)
    write_figures(args, **figures)
    for failure in figures['failures']:
        print(f'FAILED: {failure}', file=sys.stderr)
    return int(bool(figures['failures']))


if __name__ == '__main__':
    sys.exit(main())
