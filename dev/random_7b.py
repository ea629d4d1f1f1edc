"""Does a model of the published size work here? A random one in the official layout tells.

Writes OUT_DIR/official (a checkpoint in shards, its tokenizer) and OUT_DIR/clip, converts them with
tools/model_converters/glus2mm.py into OUT_DIR/converted, loads that in bfloat16 and in float32,
segments a clip with both, and prints a report, which is OUT_DIR/report.json too. The weights make
[SEG] the next token at every step; the report counts that it was. Needs some 30 GB of disk and an
accelerator of 40 GB for the size 7b. Example::

    python dev/random_7b.py /scratch/random-7b --device cuda
    python dev/random_7b.py outputs/random-tiny --size tiny
"""

import argparse
import gc
import json
import shutil
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import init_empty_weights
from omegaconf import OmegaConf
from torch import Tensor
from tqdm import tqdm
from transformers import CLIPVisionConfig, CLIPVisionModel

from glus_mm.apis import GLUSInferencer, init_model
from glus_mm.conversion.config_file import check_space
from glus_mm.conversion.official_weights import to_official
from glus_mm.datasets.moving_shapes import generate_video
from glus_mm.models.heads.sam2_arch import build_sam2, sam2_sizes
from glus_mm.registry import MODELS, build_child
from glus_mm.text.tokenizer import SHIPPED_TOKENIZERS, SegTokenizer
from glus_mm.utils.paths import ensure_writable_dir
from glus_mm.video import open_reader

CONVERTER = Path(__file__).resolve().parents[1] / 'tools/model_converters/glus2mm.py'
TEXTS = ('the red circle', 'the shape moving to the left', 'the largest shape')
SAM2 = 'model.visual_model.'
STD = 0.02  # of LLaMA's initial weights
# Every embedding and visual token has MARK in the dimension MARKED, no layer writes to it, and the
# row of [SEG] in lm_head points along it, all other rows being zero: [SEG] wins whatever is asked.
MARKED, MARK = 0, 4 * STD


@dataclass(frozen=True)
class Size:
    """Sizes of a model.

    Attributes:
        llm: as ``LlamaConfig`` names them, with ``vocab_size``.
        vision_tower: as ``CLIPVisionConfig`` names them.
        sam2: name of a config of the sam2 package, or the sizes of ``sam2_sizes``.
        image_size: side of SAM-2's input.
        shard_bytes: size of a shard of the checkpoint.
    """

    llm: dict[str, Any]
    vision_tower: dict[str, Any]
    sam2: str | dict[str, Any]
    image_size: int
    shard_bytes: int


SIZES = {
    '7b': Size(
        llm=dict(hidden_size=4096, num_hidden_layers=32, num_attention_heads=32,
                 intermediate_size=11008, max_position_embeddings=2048, rms_norm_eps=1e-6,
                 vocab_size=32004),
        vision_tower=dict(hidden_size=1024, num_hidden_layers=24, num_attention_heads=16,
                          intermediate_size=4096, image_size=224, patch_size=14),
        sam2='sam2_hiera_l', image_size=1024, shard_bytes=2 * 10**9),
    'tiny': Size(
        llm=dict(hidden_size=64, num_hidden_layers=2, num_attention_heads=4,
                 intermediate_size=128, max_position_embeddings=2048, rms_norm_eps=1e-6,
                 vocab_size=640),
        vision_tower=dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
                          intermediate_size=64, image_size=56, patch_size=14),
        sam2=dict(d_model=64), image_size=128, shard_bytes=10**6),
}


@dataclass
class Report:
    """What was measured; sizes in GB (1e9 bytes), times in seconds."""

    size: str
    device: str
    parameters: int
    checkpoint_gb: float
    shards: int
    write_s: float
    convert_s: float = 0.0
    convert_peak_anonymous_gb: float | None = None
    runs: dict[str, dict] = field(default_factory=dict)
    agreement: dict[str, float] = field(default_factory=dict)


def parse_args() -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    """Parse the command line."""
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
    return parser, parser.parse_args()


def write_checkpoint(folder: Path, size: Size, device: str) -> tuple[int, int]:
    """Write the checkpoint shard by shard; no more than one is in memory, and SAM-2.

    Args:
        folder: a new one; gets ``official/`` and ``clip/``, and ``sam2.yaml`` for a size without
            a published config.
        size: the sizes.
        device: where random numbers are drawn, which takes a minute on a CPU.

    Returns:
        Number of parameters of the model, and of shards.
    """
    _write_clip(folder / 'clip', size)
    official = folder / 'official'
    official.mkdir()
    for file in SHIPPED_TOKENIZERS['tiny'].iterdir():
        if file.name in ('tokenizer.model', 'added_tokens.json'):
            shutil.copyfile(file, official / file.name)
    _write_config(official, size)
    sam2 = write_sam2_config(folder, size)
    shapes, num_parameters = _shapes(size, sam2)
    total = 2 * sum(shape.numel() for shape in shapes.values())
    check_space(official, folder, 2.1 * total)  # with what the converter will write
    shards = _plan(shapes, size.shard_bytes)
    sam2_weights = build_sam2(sam2, size.image_size).state_dict()
    generator = torch.Generator(device).manual_seed(0)
    seg_id = SegTokenizer.from_pretrained('tiny').seg_id
    index = {}
    for number, names in enumerate(tqdm(shards, unit='shard', desc='writing'), 1):
        file = f'pytorch_model-{number:05d}-of-{len(shards):05d}.bin'
        torch.save({name: _make(name, shapes[name], generator, sam2_weights, seg_id)
                    for name in names}, official / file)
        index.update(dict.fromkeys(names, file))
    (official / 'pytorch_model.bin.index.json').write_text(
        json.dumps(dict(metadata=dict(total_size=total), weight_map=index), indent=1))
    return num_parameters, len(shards)


def write_sam2_config(folder: Path, size: Size) -> str:
    """Name of the SAM-2 config; one that sam2 does not ship is written as a YAML file."""
    if isinstance(size.sam2, str):
        return size.sam2
    model = dict(sam2_sizes(**size.sam2), image_size=size.image_size)
    OmegaConf.save(OmegaConf.create(dict(model=model)), folder / 'sam2.yaml')
    return str(folder / 'sam2.yaml')


def _write_clip(folder: Path, size: Size) -> None:
    torch.manual_seed(0)
    config = CLIPVisionConfig(**size.vision_tower, hidden_act='quick_gelu')
    CLIPVisionModel(config).to(torch.bfloat16).save_pretrained(folder)
    side = size.vision_tower['image_size']
    (folder / 'preprocessor_config.json').write_text(json.dumps(dict(size=side, crop_size=side)))


def _write_config(folder: Path, size: Size) -> None:
    values = dict(
        size.llm, architectures=['GLUSForCausalLM'], model_type='llava', hidden_act='silu',
        num_key_value_heads=size.llm['num_attention_heads'], initializer_range=STD,
        bos_token_id=1, eos_token_id=2, pad_token_id=0, tie_word_embeddings=False,
        mm_vision_tower='../clip', mm_hidden_size=size.vision_tower['hidden_size'],
        mm_vision_select_layer=-2, mm_vision_select_feature='patch', mm_use_im_start_end=True,
        train_mask_decoder=True, out_dim=256, torch_dtype='bfloat16')
    (folder / 'config.json').write_text(json.dumps(values, indent=2))


def _shapes(size: Size, sam2: str) -> tuple[dict[str, torch.Size], int]:
    """Official names and shapes of the checkpoint, and the number of parameters of the model."""
    with init_empty_weights():
        model = build_child(MODELS, dict(
            type='GLUS',
            mllm=dict(type='LlavaMLLM', vision_tower=size.vision_tower, llm=size.llm),
            mask_head=dict(type='SAM2MemoryHead', sam2=sam2, image_size=size.image_size)))
    shapes = {to_official(name): value.shape for name, value in model.state_dict().items()}
    shapes.pop(None)  # the vision tower, which official checkpoints leave out
    return shapes, sum(p.numel() for p in model.parameters())


def _plan(shapes: dict[str, torch.Size], shard_bytes: int) -> list[list[str]]:
    """Names per shard, in order; two bytes a number."""
    shards, used = [[]], 0
    for name, shape in shapes.items():
        if shards[-1] and used + 2 * shape.numel() > shard_bytes:
            shards.append([])
            used = 0
        shards[-1].append(name)
        used += 2 * shape.numel()
    return shards


def _make(name: str, shape: torch.Size, generator: torch.Generator, sam2: dict[str, Tensor],
          seg_id: int) -> Tensor:
    """One weight in bfloat16."""
    if name.startswith(SAM2):
        return sam2[name.removeprefix(SAM2)].to(torch.bfloat16)
    value = torch.zeros(shape, dtype=torch.bfloat16)
    if name == 'lm_head.weight':
        value[seg_id, MARKED] = 1
    elif name.endswith('norm.weight'):
        value.fill_(1)
    elif name == 'model.mm_projector.bias':
        value[MARKED] = MARK
    elif not name.endswith('.bias'):
        value = torch.empty(shape, dtype=torch.bfloat16, device=generator.device).normal_(
            0, STD, generator=generator).cpu()
        if name == 'model.embed_tokens.weight':
            value[:, MARKED] = MARK
        elif name.endswith(('o_proj.weight', 'down_proj.weight', 'mm_projector.weight')):
            value[MARKED] = 0
    return value


def convert(folder: Path, sam2: str) -> tuple[float, float | None]:
    """Run the converter in a process of its own.

    Returns:
        Seconds, and the most anonymous memory that it held, in GB (mapped files do not count);
        None where the system does not say.
    """
    start = time.perf_counter()
    process = subprocess.Popen([
        sys.executable, str(CONVERTER), str(folder / 'official'), str(folder / 'converted'),
        '--clip', str(folder / 'clip'), '--sam2', sam2])
    peak = 0
    while process.poll() is None:
        peak = max(peak, _anonymous_bytes(process.pid))
        time.sleep(0.02)
    if process.returncode:
        raise RuntimeError(f'the converter failed with status {process.returncode}')
    return time.perf_counter() - start, peak / 1e9 or None


def _anonymous_bytes(pid: int) -> int:
    try:
        status = Path(f'/proc/{pid}/status').read_text()
    except OSError:  # it has ended, or this is not Linux
        return 0
    lines = [line.split() for line in status.splitlines() if line.startswith('RssAnon')]
    return int(lines[0][1]) * 1024 if lines else 0


def run(folder: Path, dtype: str, device: str, frames: list[np.ndarray],
        texts: list[str]) -> tuple[dict[str, Any], np.ndarray]:
    """Load the converted model in a type and segment the clip.

    Returns:
        Measurements, and the masks, bool (E, T, H, W).
    """
    cuda = torch.device(device).type == 'cuda'
    if cuda:
        torch.cuda.reset_peak_memory_stats(device)
    start = time.perf_counter()
    model = init_model(folder / 'converted' / 'config.py', folder / 'converted' / 'model.pth',
                       device, {'model.dtype': dtype})
    load_s = _now(cuda) - start
    inferencer = GLUSInferencer(model)
    inferencer(frames[:2], texts)  # warm-up
    start = _now(cuda)
    out = inferencer(frames, texts, progress=True)
    seconds = _now(cuda) - start
    masks = np.stack([np.stack(list(rles)) for rles in out['masks']])
    figures = dict(
        load_s=load_s, seconds=seconds, frames_per_s=len(frames) / seconds,
        masks_per_s=masks.shape[0] * masks.shape[1] / seconds,
        steps=out['is_seg'].size, steps_with_seg=int(out['is_seg'].sum()),
        mask_area=float(masks.mean()),
        gpu_gb=torch.cuda.max_memory_allocated(device) / 1e9 if cuda else None)
    return figures, masks


def _now(cuda: bool) -> float:
    if cuda:
        torch.cuda.synchronize()
    return time.perf_counter()


def compare(first: np.ndarray, second: np.ndarray) -> dict[str, float]:
    """IoU of masks (E, T, H, W), and the share of pixels that differ; two empty masks agree."""
    inter = (first & second).sum((2, 3))
    union = (first | second).sum((2, 3))
    iou = np.where(union > 0, inter / np.maximum(union, 1), 1.0)
    return dict(iou_mean=float(iou.mean()), iou_median=float(np.median(iou)),
                iou_min=float(iou.min()), iou_first_frame=float(iou[:, 0].mean()),
                pixels_that_differ=float((first != second).mean()))


def read_frames(video: str | None, num_frames: int) -> list[np.ndarray]:
    """The first frames of a video, uint8 (H, W, 3)."""
    if video is None:
        return list(generate_video(0, 'valid_u', 0).frames[:num_frames])
    with open_reader(video) as reader:
        return [reader[t] for t in range(min(num_frames, len(reader)))]


def print_report(report: Report) -> None:
    """Print the figures, one a line."""
    for key, value in asdict(report).items():
        if isinstance(value, dict):
            for name, inner in value.items():
                print(f'{key}.{name}: {inner}')
        else:
            print(f'{key}: {value}')


def main() -> None:
    """Write, convert, run, compare."""
    parser, args = parse_args()
    size = SIZES[args.size]
    try:
        frames = read_frames(args.video, args.frames)
        folder = ensure_writable_dir(args.out_dir)
        if any(folder.iterdir()):
            raise FileExistsError(f'expected an empty folder, got one with files: {folder}')
        start = time.perf_counter()
        parameters, shards = write_checkpoint(folder, size, args.device)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    written = sum(file.stat().st_size for file in (folder / 'official').iterdir())
    report = Report(args.size, args.device, parameters, written / 1e9, shards,
                    time.perf_counter() - start)
    sam2 = str(folder / 'sam2.yaml') if (folder / 'sam2.yaml').is_file() else size.sam2
    report.convert_s, report.convert_peak_anonymous_gb = convert(folder, sam2)
    masks = {}
    for dtype in ('bfloat16', 'float32'):
        report.runs[dtype], masks[dtype] = run(folder, dtype, args.device, frames,
                                               args.text or list(TEXTS))
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    report.agreement = compare(masks['bfloat16'], masks['float32'])
    (folder / 'report.json').write_text(json.dumps(asdict(report), indent=2))
    print_report(report)
    if not args.keep:
        for name in ('official', 'clip', 'converted'):
            shutil.rmtree(folder / name)
    silent = {d: r['steps'] - r['steps_with_seg'] for d, r in report.runs.items()}
    if any(silent.values()):
        sys.exit(f'expected [SEG] at every step, got steps without it: {silent}')


if __name__ == '__main__':
    main()
