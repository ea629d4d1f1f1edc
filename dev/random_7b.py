"""Does a model of the published size work here? A random one in the official layout tells.

Writes OUT_DIR/official (a checkpoint in shards, its tokenizer, its vision tower), converts it with
tools/model_converters/glus2mm.py into OUT_DIR/converted, loads that in bfloat16 and in float32,
segments a clip with both, and prints a report, which is OUT_DIR/report.json too. The weights make
[SEG] the next token at every step; the report counts that it was. Needs some 30 GB of disk and an
accelerator of 40 GB for the size 7b. Example::

    python dev/random_7b.py /scratch/random-7b --device cuda
    python dev/random_7b.py outputs/random-tiny --size tiny
"""

import argparse
import contextlib
import gc
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmark_j_and_f import ROOT, memory

from glus_mm.apis import GLUSInferencer, init_model
from glus_mm.conversion import export_official
from glus_mm.datasets.moving_shapes import generate_video
from glus_mm.utils.command_line import refuse
from glus_mm.utils.paths import ensure_writable_dir
from glus_mm.video import open_reader

sys.path.append(str(ROOT / 'tools' / 'analysis_tools'))
from inference_benchmark import build_model, emit_seg_always

TEXTS = ('the red circle', 'the shape moving to the left', 'the largest shape')
# Size of the benchmarks, what differs from it below model, the largest shard.
SIZES: dict[str, tuple[str, dict[str, Any], str]] = {
    '7b': ('7b', {}, '2GB'),
    'tiny': ('small', {
        'mllm.llm.hidden_size': 64, 'mllm.llm.num_hidden_layers': 2,
        'mllm.llm.num_attention_heads': 4, 'mllm.llm.intermediate_size': 128,
        'mllm.llm.vocab_size': 640, 'mllm.vision_tower.hidden_size': 32,
        'mllm.vision_tower.num_hidden_layers': 2, 'mllm.vision_tower.num_attention_heads': 2,
        'mllm.vision_tower.intermediate_size': 64, 'mask_head.image_size': 1024,
        'mask_head.sam2': str(ROOT / 'tests/data/official_glus_tiny/sam2_tiny_a.yaml')}, '1MB')}


def write_checkpoint(folder: Path, size: str, device: str, frames: list[np.ndarray]
                     ) -> tuple[int, str]:
    """Write ``official`` into a folder; frames tell how large the random weights have to be.

    Returns:
        Number of parameters of the model, and its SAM-2.
    """
    name, options, shard = SIZES[size]
    model = build_model(name, 'bfloat16', device, options)
    emit_seg_always(model, frames, len(TEXTS))
    weights = folder / 'random.pth'
    torch.save(dict(state_dict={key: value.cpu() for key, value in model.state_dict().items()}),
               weights)
    export_official(model.cfg, weights, folder / 'official', max_shard_size=shard,
                    vision_tower='clip', dtype='bfloat16')
    weights.unlink()
    return sum(p.numel() for p in model.parameters()), model.cfg.model.mask_head.sam2


def convert(folder: Path, sam2: str) -> tuple[float, float | None]:
    """Run the converter in a process of its own.

    Returns:
        Seconds, and the most anonymous memory that it held, in GB (mapped files do not count);
        None where the system does not say.
    """
    start = time.perf_counter()
    process = subprocess.Popen([
        sys.executable, str(ROOT / 'tools/model_converters/glus2mm.py'), str(folder / 'official'),
        str(folder / 'converted'), '--clip', str(folder / 'official' / 'clip'), '--sam2', sam2])
    peak = 0.0
    while process.poll() is None:
        # None while it starts or ends, or where this is not Linux.
        with contextlib.suppress(OSError, TypeError):
            peak = max(peak, memory('RssAnon', pid=process.pid))
        time.sleep(0.02)
    if process.returncode:
        raise RuntimeError(f'the converter failed with status {process.returncode}')
    return time.perf_counter() - start, peak / 1e3 or None


def run(folder: Path, dtype: str, device: str, frames: list[np.ndarray],
        texts: list[str]) -> tuple[dict[str, Any], np.ndarray]:
    """Load the converted model in a type and segment the clip.

    Returns:
        Measurements, and the masks, bool (E, T, H, W).
    """
    cuda = torch.device(device).type == 'cuda'

    def now() -> float:
        if cuda:
            torch.cuda.synchronize()
        return time.perf_counter()

    if cuda:
        torch.cuda.reset_peak_memory_stats(device)
    start = now()
    model = init_model(folder / 'converted' / 'config.py', folder / 'converted' / 'model.pth',
                       device, {'model.dtype': dtype})
    load_s = now() - start
    inferencer = GLUSInferencer(model)
    inferencer(frames[:2], texts)  # warm-up
    start = now()
    out = inferencer(frames, texts, progress=True)
    seconds = now() - start
    masks = np.stack([np.stack(list(rles)) for rles in out['masks']])
    figures = dict(
        load_s=load_s, seconds=seconds, frames_per_s=len(frames) / seconds,
        masks_per_s=masks.shape[0] * masks.shape[1] / seconds,
        steps=out['is_seg'].size, steps_with_seg=int(out['is_seg'].sum()),
        mask_area=float(masks.mean()),
        gpu_gb=torch.cuda.max_memory_allocated(device) / 1e9 if cuda else None)
    return figures, masks


def compare(first: np.ndarray, second: np.ndarray) -> dict[str, float]:
    """IoU of masks (E, T, H, W), and the share of pixels that differ; two empty masks agree."""
    inter = (first & second).sum((2, 3))
    union = (first | second).sum((2, 3))
    iou = np.where(union > 0, inter / np.maximum(union, 1), 1.0)
    return dict(iou_mean=float(iou.mean()), iou_median=float(np.median(iou)),
                iou_min=float(iou.min()), iou_first_frame=float(iou[:, 0].mean()),
                pixels_that_differ=float((first != second).mean()))


def main() -> None:
    """Write, convert, run, compare."""
    parser = argparse.ArgumentParser(description='Write, convert, load and run a random model')
    parser.add_argument('out_dir', metavar='OUT_DIR', help='folder for all that is written')
    parser.add_argument('--size', choices=sorted(SIZES), default='7b')
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu',
                        help='cpu, cuda, cuda:1 (default here: %(default)s)')
    parser.add_argument('--video', metavar='FILE_OR_DIR',
                        help='what to segment (default: a generated MovingShapes video)')
    parser.add_argument('--text', action='append', metavar='T', help='give it for each expression')
    parser.add_argument('--frames', type=int, default=16, metavar='N',
                        help='segment the first N frames (default: %(default)s)')
    parser.add_argument('--keep', action='store_true',
                        help='do not delete the weights at the end')
    args = parser.parse_args()
    with refuse(parser):
        reader = generate_video(0, 'valid_u', 0).frames if args.video is None else \
            open_reader(args.video)
        frames = [reader[t] for t in range(min(args.frames, len(reader)))]
        folder = ensure_writable_dir(args.out_dir)
        if any(folder.iterdir()):
            raise FileExistsError(f'expected an empty folder, got one with files: {folder}')
        start = time.perf_counter()
        parameters, sam2 = write_checkpoint(folder, args.size, args.device, frames)
    files = [file for file in (folder / 'official').iterdir() if file.suffix == '.bin']
    report: dict[str, Any] = dict(
        size=args.size, device=args.device, parameters=parameters,
        checkpoint_gb=sum(file.stat().st_size for file in files) / 1e9,
        shards=len(files), write_s=time.perf_counter() - start)
    report['convert_s'], report['convert_peak_anonymous_gb'] = convert(folder, sam2)
    report['runs'], masks = {}, {}
    for dtype in ('bfloat16', 'float32'):
        report['runs'][dtype], masks[dtype] = run(folder, dtype, args.device, frames,
                                                  args.text or list(TEXTS))
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    report['agreement'] = compare(masks['bfloat16'], masks['float32'])
    (folder / 'report.json').write_text(json.dumps(report, indent=2))
    for key, value in report.items():
        for name, inner in (value.items() if isinstance(value, dict) else [('', value)]):
            print(f'{key}{name and "."}{name}: {inner}')
    if not args.keep:
        for name in ('official', 'converted'):
            shutil.rmtree(folder / name)
    silent = {d: r['steps'] - r['steps_with_seg'] for d, r in report['runs'].items()}
    if any(silent.values()):
        sys.exit(f'expected [SEG] at every step, got steps without it: {silent}')


if __name__ == '__main__':
    main()
