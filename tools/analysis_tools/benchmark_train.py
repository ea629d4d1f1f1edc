"""Measures what a training step costs: samples/s, peak memory, and where the time goes.

Models with random weights and videos of noise. Steps that compute what expressions share once are
interleaved with steps in the official order of work on the same batches and weights, and their
losses are compared. Reading data is not measured. Examples::

    python tools/analysis_tools/benchmark_train.py --size small --steps 4
    python tools/analysis_tools/benchmark_train.py --size 7b --device cuda --dtype bfloat16 \\
        --memory through checkpoint detach --json outputs/benchmark_train_7b.json
"""

import argparse
import gc
import json
import statistics
import sys
import time
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode
from train_benchmark import PHASES, SIZES, TrainStep, Variant, build_model, make_batch
from train_benchmark.model import MEMORY, resident_gb, run_alone, step_timer, write_figures

# Dense bf16 matrix throughput in TFLOP/s, from the makers' data sheets, by part of the name.
BF16_PEAK = {'H200': 989, 'H100 PCIe': 756, 'H100': 989, 'GH200': 989, 'B200': 2250, 'A100': 312,
             'A800': 312, 'L40S': 362, 'L40': 181, 'L4': 121, 'A10G': 70, 'A10': 125,
             'RTX 4090': 165, 'RTX 3090': 71}


def measure(args: argparse.Namespace, variants: list[Variant]) -> dict[str, dict]:
    """Time all variants in turn; the parts and the FLOPs in further steps.

    Returns:
        For each variant ``step_s`` and ``cpu_s`` (of all timed steps; the latter is the time on
        cores, which other programs hardly change), ``losses`` (of each), ``phases`` (seconds),
        ``tflop`` (of a step) and, on a GPU, ``peak_gb``.
    """
    model = build_model(args.size, args.dtype, args.device, args.llm_bits)
    step, cuda = TrainStep(model), args.device.startswith('cuda')
    figures = {str(v): dict(step_s=[], cpu_s=[], losses=[]) for v in variants}
    for number in range(args.warmup + args.steps):
        batch = make_batch(model, args.videos, args.expressions, number)
        for variant in variants[::1 - 2 * (number % 2)]:
            step.use(variant)
            if cuda:
                torch.cuda.synchronize()
                torch.cuda.reset_peak_memory_stats()
            start, cpu = time.perf_counter(), time.process_time()
            losses = step(batch)
            if cuda:
                torch.cuda.synchronize()
            seconds = time.perf_counter() - start
            print(f'{"warm-up" if number < args.warmup else "step"} {number}: {variant}: '
                  f'{seconds:.3f} s', file=sys.stderr, flush=True)
            if number >= args.warmup:
                entry = figures[str(variant)]
                entry['step_s'].append(seconds)
                entry['cpu_s'].append(time.process_time() - cpu)
                entry['losses'].append(losses)
                if cuda:
                    peak = torch.cuda.max_memory_allocated() / 1e9
                    entry['peak_gb'] = max(peak, entry.get('peak_gb', 0.0))
    for variant in variants:
        step.use(variant)
        timer = step_timer(model)
        step(batch, timer)
        with FlopCounterMode(display=False) as counter:
            step(batch)
        figures[str(variant)].update(
            phases=timer.seconds, tflop=counter.get_total_flops() / 1e12)
    return figures


def report_host_peak(args: argparse.Namespace, variant: Variant) -> None:
    """Print, as JSON, the resident set before a step and at its peak, in GB (Linux).

    It is to run in a process of its own that does nothing but steps of a variant.
    """
    model = build_model(args.size, args.dtype, 'cpu', args.llm_bits)
    step, batch = TrainStep(model), make_batch(model, args.videos, args.expressions, 0)
    step.use(variant)
    step(batch)  # makes the optimizer's state
    gc.collect()
    Path('/proc/self/clear_refs').write_text('5')
    before = resident_gb('VmRSS')
    step(batch)
    print(json.dumps(dict(before_step_gb=before, peak_gb=resident_gb())))


def summarize(args: argparse.Namespace, variants: list[Variant], figures: dict[str, dict]) -> None:
    """Add samples/s and comparisons with the first variant, the official order of work."""
    device, peak = 'CPU', None
    if args.device.startswith('cuda'):
        device = torch.cuda.get_device_name(args.device)
        peak = next((value for part, value in BF16_PEAK.items() if part in device), None)
    base = figures[str(variants[0])]
    for entry in figures.values():
        entry['device'] = device
        entry['samples_per_s'] = args.videos / statistics.median(entry['step_s'])
        entry['speedup'] = entry['samples_per_s'] / base['samples_per_s']
        for key, names in (('loss_difference', set(base['losses'][0]) - {'grad_norm'}),
                           ('grad_norm_difference', {'grad_norm'})):
            entry[key] = max(abs(own[name] - other[name]) / max(abs(other[name]), 1e-12)
                             for own, other in zip(entry['losses'], base['losses'])
                             for name in names)
        entry['tflop_per_s'] = entry['tflop'] / statistics.median(entry['step_s'])
        entry['share_of_bf16_peak'] = peak and entry['tflop_per_s'] / peak


def print_report(args: argparse.Namespace, variants: list[Variant],
                 figures: dict[str, dict]) -> None:
    """Print a table, one column for each variant."""
    first = figures[str(variants[0])]
    print(f'size {args.size}, {args.videos} videos x {args.expressions} expressions, {args.dtype}, '
          f'{first["device"]}, {torch.get_num_threads()} threads, torch {torch.__version__}')
    rows = {
        'samples/s': lambda e: f'{e["samples_per_s"]:.4f}',
        'x official': lambda e: f'{e["speedup"]:.2f}',
        'step s, median': lambda e: f'{statistics.median(e["step_s"]):.3f}',
        'step s, least to most': lambda e: f'{min(e["step_s"]):.3f} - {max(e["step_s"]):.3f}',
        'CPU s of a step, median': lambda e: f'{statistics.median(e["cpu_s"]):.3f}',
        'peak memory GB': lambda e: f'{e["peak_gb"]:.2f}' if 'peak_gb' in e else '-',
        'TFLOP of a step': lambda e: f'{e["tflop"]:.3f}',
        'TFLOP/s': lambda e: f'{e["tflop_per_s"]:.3f}',
        'share of bf16 peak': lambda e: (f'{e["share_of_bf16_peak"]:.1%}'
                                         if e['share_of_bf16_peak'] else '-'),
        'losses differ by': lambda e: f'{e["loss_difference"]:.1e}',
        'grad norm differs by': lambda e: f'{e["grad_norm_difference"]:.1e}',
    }
    rows |= {f'  {name} s': lambda e, name=name: f'{e["phases"][name]:.3f}' for name in PHASES}
    print(f'{"":24}' + ''.join(f'{str(v):>22}' for v in variants))
    for name, value in rows.items():
        print(f'{name:24}' + ''.join(f'{value(figures[str(v)]):>22}' for v in variants))


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description='Cost of a training step')
    parser.add_argument('--size', choices=sorted(SIZES), default='small')
    parser.add_argument('--videos', type=int, default=2, metavar='B',
                        help='videos of a batch (default: %(default)s, as the paper)')
    parser.add_argument('--expressions', type=int, default=3, metavar='E',
                        help='expressions of each video (default: %(default)s, as the paper)')
    parser.add_argument('--memory', nargs='+', choices=sorted(MEMORY), default=['through'],
                        help='gradient through the memory: not at all, with kept or with '
                             'recomputed activations; the official order of work takes the first '
                             '(default: through)')
    parser.add_argument('--dtype', choices=('float32', 'bfloat16', 'float16'),
                        help='type of frozen parameters (default: bfloat16 on a GPU)')
    parser.add_argument('--llm-bits', type=int, choices=(4, 16), default=16,
                        help='4: frozen linear layers of the LLM as QuantizeHook makes them')
    parser.add_argument('--device', default='cpu', help='cpu, cuda, cuda:1 (default: %(default)s)')
    parser.add_argument('--steps', type=int, default=5, metavar='N',
                        help='timed steps of each variant (default: %(default)s)')
    parser.add_argument('--warmup', type=int, default=1, metavar='N',
                        help='steps before (default: %(default)s)')
    parser.add_argument('--json', metavar='FILE', help='write the figures there, too')
    parser.add_argument('--measure-memory', metavar='ORDER,MEMORY', help=argparse.SUPPRESS)
    args = parser.parse_args()
    for name in ('videos', 'expressions', 'steps'):
        if getattr(args, name) < 1:
            parser.error(f'expected --{name} of at least 1, got {getattr(args, name)}')
    if args.device.startswith('cuda') and not torch.cuda.is_available():
        parser.error(f'expected a device that is here, got --device {args.device}: no CUDA')
    if args.dtype is None:
        args.dtype = 'bfloat16' if args.device.startswith('cuda') else 'float32'
    args.memory = list(dict.fromkeys(args.memory))
    if args.measure_memory:
        report_host_peak(args, Variant(*args.measure_memory.split(',')))
        return
    variants = [Variant('official', args.memory[0])] + [Variant('ours', m) for m in args.memory]
    figures = measure(args, variants)
    if args.device == 'cpu' and sys.platform == 'linux':
        for variant in variants:
            figures[str(variant)].update(run_alone(
                __file__, '--size', args.size, '--videos', args.videos, '--expressions',
                args.expressions, '--dtype', args.dtype, '--llm-bits', args.llm_bits,
                '--measure-memory', f'{variant.order},{variant.memory}'))
    summarize(args, variants, figures)
    print_report(args, variants, figures)
    write_figures(args, variants=figures)


if __name__ == '__main__':
    main()
