"""Models with random weights that segment something on every frame, and videos for them."""

import cv2
import numpy as np
import torch
from mmengine import Config
from torch import Tensor
from train_benchmark.model import CONFIGS, SIZES

from glus_mm.models import GLUS
from glus_mm.registry import MODELS, build_child
from glus_mm.structures import RefVOSDataSample
from glus_mm.video import ArrayReader

WHOLE = CONFIGS / 'glus_lisa-7b_sam2-l.py'
LOGIT_STD = 10.0
"""Of the masks that are calibrated; the fixture's official model has about 15."""
CALIBRATION = 2
"""Frames, and at most as many expressions, that the random weights are calibrated on."""


def build_model(size: str, dtype: str, device: str, options: dict | None = None) -> GLUS:
    """Build a model in eval mode, without adapters and with nothing to train.

    Args:
        size: ``'tiny'``, ``'small'`` or ``'7b'``, with the sizes of benchmark_train.py.
        dtype: ``'float32'``, ``'bfloat16'``, ``'float16'`` or ``'float64'``.
        device: where it is built, too: a large model never stands in the host's memory.
        options: further dotted keys below ``model`` and their values.

    Returns:
        The model, with the weights of seed 0; its config is ``model.cfg``.
    """
    path, sizes = SIZES[size]
    cfg = Config.fromfile(path if size == 'tiny' else WHOLE)
    half = dtype in ('bfloat16', 'float16')
    cfg.merge_from_dict({
        **sizes, 'model.dtype': dtype if half else 'float32', 'model.mllm.trainable': [],
        'model.mask_head.trainable': [],
        **{f'model.{key}': value for key, value in (options or {}).items()}})
    torch.manual_seed(0)
    with torch.device(device):
        model = build_child(MODELS, cfg.model.to_dict())
    if dtype == 'float64':
        model = model.double()
    model.cfg = cfg
    return model.to(device).eval()


def make_frames(num: int, shape: tuple[int, int], seed: int = 0) -> list[np.ndarray]:
    """Frames uint8 (H, W, 3) with blurred noise and squares that move."""
    rng = np.random.default_rng(seed)
    height, width = shape
    coarse = rng.integers(0, 200, (max(height // 16, 1), max(width // 16, 1), 3), dtype=np.uint8)
    back = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
    side, frames = height // 4, []
    for t in range(num):
        frame = back.copy()
        for k in range(3):
            left = (t * (3 + 2 * k) + k * width // 3) % (width - side)
            top = (k * height // 4 + t * k) % (height - side)
            frame[top:top + side, left:left + side] = (80 * k, 250 - 60 * k, 40 + 70 * k)
        frames.append(frame)
    return frames


def make_sample(expressions: int) -> RefVOSDataSample:
    """A data sample with so many texts of different length."""
    words = ('the red square', 'the square that moves to the right', 'a blue one',
             'the green square on the left', 'all squares', 'the slow one', 'one at the top',
             'the largest square of all')
    texts = tuple(f'{words[e % len(words)]}{" again" * (e // len(words))}'
                  for e in range(expressions))
    return RefVOSDataSample(metainfo=dict(
        dataset='benchmark', video_id='video', expressions=texts,
        exp_ids=tuple(map(str, range(expressions)))))


@torch.no_grad()
def emit_seg_always(model: GLUS, frames: list[np.ndarray], expressions: int) -> None:
    """Change the random weights so that ``[SEG]`` wins and masks are neither empty nor full.

    The rows of the ``lm_head`` become 0 but that of ``[SEG]``, which is the mean of the hidden
    states on a few frames. Then the last layers that make the masks get a scale and a bias with
    which logits have mean 0 and a standard deviation of ``LOGIT_STD``.
    """
    states: list[Tensor] = []
    head = model.mllm.lm_head
    head.weight.zero_()
    _run_few(model, frames, expressions, [head.register_forward_pre_hook(
        lambda _, args: states.append(args[0].double()))])
    mean = torch.cat(states).mean(0)
    head.weight[model.mllm.tokenizer.seg_id] = (20 * mean / mean.square().sum()).to(head.weight)
    decoder = model.mask_head.sam2.sam_mask_decoder
    pixels: list[Tensor] = []
    weights: list[list[Tensor]] = [[] for _ in decoder.output_hypernetworks_mlps]
    handles = [decoder.output_upscaling[4].register_forward_hook(
        lambda _, args, out: pixels.append(out.double().flatten(2)))]
    for rows, mlp in zip(weights, decoder.output_hypernetworks_mlps):
        handles.append(mlp.register_forward_hook(
            lambda _, args, out, rows=rows: rows.append(out.double())))
    _run_few(model, frames, expressions, handles)
    pixel = torch.cat(pixels)
    level = pixel.mean((0, 2))
    for rows, mlp in zip(weights, decoder.output_hypernetworks_mlps):
        weight = torch.cat(rows)
        offset = (weight @ level).mean() / level.square().sum() * level
        scale = LOGIT_STD / torch.einsum('nc,ncp->np', weight - offset, pixel).std()
        last = mlp.layers[-1]
        last.weight.mul_(scale.to(last.weight))
        last.bias.sub_(offset.to(last.bias)).mul_(scale.to(last.bias))


def _run_few(model: GLUS, frames: list[np.ndarray], expressions: int, handles: list) -> None:
    """Segment a few frames for a few expressions, then remove the hooks."""
    sample = make_sample(min(expressions, CALIBRATION))
    session = model.init_session(ArrayReader(frames[:CALIBRATION]), sample)
    for _ in model.segment(session):
        pass
    for handle in handles:
        handle.remove()
