"""What both benchmarks share: models with random weights, batches, timers, memory."""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine import Config
from mmengine.optim import OptimWrapper
from official_order import train_officially
from torch import nn

from glus_mm.models import GLUS
from glus_mm.registry import MODELS, build_child
from glus_mm.structures import RefVOSDataSample
from glus_mm.text.prompt import build_conversation
from glus_mm.utils.quantize import quantize_frozen

CONFIGS = Path(__file__).resolve().parents[3] / 'configs' / '_base_' / 'models'
LORA = CONFIGS / 'glus_lisa-7b_sam2-l_lora.py'
# The shipped tokenizer stands in for LLaMA's; embeddings and logits are as large as its own.
PUBLISHED = {'model.mllm.tokenizer': 'tiny', 'model.mllm.llm.vocab_size': 32004}
# What is trained, and how, is that of the published size in all but the tiny model.
SIZES = {
    '7b': (LORA, PUBLISHED),
    'small': (LORA, {
        **PUBLISHED,
        'model.mllm.llm.hidden_size': 512, 'model.mllm.llm.num_hidden_layers': 8,
        'model.mllm.llm.num_attention_heads': 8, 'model.mllm.llm.intermediate_size': 1376,
        'model.mllm.vision_tower.hidden_size': 768,
        'model.mllm.vision_tower.num_hidden_layers': 12,
        'model.mllm.vision_tower.num_attention_heads': 12,
        'model.mllm.vision_tower.intermediate_size': 3072,
        'model.mask_head.sam2': 'sam2_hiera_t', 'model.mask_head.image_size': 512}),
    'tiny': (CONFIGS / 'glus_tiny.py', {}),
}
FRAME = (480, 854)
"""Height and width of the made-up frames, those of most MeViS videos."""
NUM_CONTEXT, NUM_QUERY = 4, 4
PHASES = ('vision tower', 'SAM-2 encoder', 'LLM forward', 'decode + memory', 'losses and rest',
          'backward', 'optimizer')


def build_model(size: str, dtype: str, device: str, llm_bits: int = 16) -> GLUS:
    """Build a model in train mode, without dropout, so that losses can be compared.

    Args:
        size: key of :data:`SIZES`.
        dtype: type of the frozen parameters, see ``model.dtype``.
        device: where it is built, too: a large model never stands in the host's memory.
        llm_bits: 4 quantizes the frozen linear layers of the LLM.

    Returns:
        The model, with the weights of seed 0.
    """
    path, options = SIZES[size]
    cfg = Config.fromfile(path)
    cfg.merge_from_dict({**options, 'model.dtype': dtype})
    torch.manual_seed(0)
    with torch.device(device):
        model = build_child(MODELS, cfg.model.to_dict())
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if hasattr(module, 'dropout_p'):
            module.dropout_p = 0.0
    model = model.to(device).train()
    if llm_bits == 4:
        quantize_frozen(model)
    return model


def make_batch(model: GLUS, videos: int, expressions: int, seed: int
               ) -> tuple[dict, list[RefVOSDataSample]]:
    """Make a batch as the data pipeline does, of noise.

    Args:
        model: the model, whose sizes and conversations it gets.
        videos: number of videos B.
        expressions: expressions of each video E.
        seed: of images, masks and texts.

    Returns:
        Inputs and data samples, preprocessed. No frame is context and query at once.
    """
    rng = np.random.default_rng(seed)
    mllm, size = model.mllm, model.mask_head.image_size
    inputs = dict(clip_imgs=[], sam_imgs=[], input_ids=[], labels=[])
    samples = []
    for b in range(videos):
        shape = (NUM_CONTEXT + NUM_QUERY, 3, mllm.image_size, mllm.image_size)
        inputs['clip_imgs'].append(torch.from_numpy(rng.integers(0, 256, shape, dtype=np.uint8)))
        inputs['sam_imgs'].append(torch.from_numpy(
            rng.random((NUM_QUERY, 3, size, size), dtype=np.float32)))
        texts = [_conversation(model, e, rng) for e in range(expressions)]
        for key, rows in zip(('input_ids', 'labels'), zip(*texts)):
            inputs[key].append(list(rows))
        sample = RefVOSDataSample(metainfo=dict(
            dataset='noise', video_id=f'{seed}-{b}',
            exp_ids=tuple(map(str, range(expressions))),
            object_ids=tuple((str(e), ) for e in range(expressions)),
            context_frame_ids=list(range(NUM_CONTEXT)),
            query_frame_ids=list(range(NUM_CONTEXT, NUM_CONTEXT + NUM_QUERY))))
        masks = np.zeros((expressions, NUM_QUERY, *FRAME), dtype=np.uint8)
        for e in range(expressions):
            top, left = rng.integers(0, FRAME[0] // 2), rng.integers(0, FRAME[1] // 2)
            masks[e, :, top:top + FRAME[0] // 3, left:left + FRAME[1] // 3] = 1
        sample.gt_masks = torch.from_numpy(masks)
        samples.append(sample)
    data = model.data_preprocessor(dict(inputs=inputs, data_samples=samples), True)
    return data['inputs'], data['data_samples']


def _conversation(model: GLUS, number: int, rng: np.random.Generator
                  ) -> tuple[np.ndarray, np.ndarray]:
    template = model.mllm.template
    questions, answers = (rng.integers(len(texts), size=NUM_QUERY).tolist()
                          for texts in (template.questions, template.answers))
    # Short, as the shipped tokenizer needs more tokens for a text than LLaMA's: conversations are
    # about as long as those of the published model with a sentence.
    text = f'{"abcdefgh"[number % 8]} one'
    return build_conversation(
        model.mllm.tokenizer, template, text, NUM_CONTEXT, questions, answers)


MEMORY = {
    'detach': dict(detach_memory=True, checkpoint_memory=False),
    'through': dict(detach_memory=False, checkpoint_memory=False),
    'checkpoint': dict(detach_memory=False, checkpoint_memory=True),
}


@dataclass(frozen=True)
class Variant:
    """A way to work.

    Attributes:
        order: ``'official'``, or ``'ours'``.
        memory: key of :data:`MEMORY`: no gradient through the memory, with it, or with it and
            recomputed activations.
    """

    order: str
    memory: str

    def __str__(self) -> str:
        return f'{self.order}, {self.memory}'


class PartTimer:
    """Adds up wall and CPU seconds of a run and of its parts; waits for the device at borders.

    Methods are wrapped while :meth:`watch` is active; what a part calls of another one counts for
    the latter alone. The CPU time, of all threads, hardly depends on what else runs on the machine.

    Args:
        parts: the methods of each part, as objects and names.
        cuda: whether they run on a GPU.
        rest: name of what is none of them.
        encoders: parts whose images are counted.

    Attributes:
        seconds: of each part.
        images: of each encoder.
    """

    def __init__(self, parts: Mapping[str, Sequence[tuple[Any, str]]], cuda: bool,
                 rest: str = 'rest', encoders: Sequence[str] = ()) -> None:
        self.wall = self.cpu = self._inner = 0.0
        self.seconds = dict.fromkeys((*parts, rest), 0.0)
        self.images = dict.fromkeys(encoders, 0)
        self._parts, self._cuda, self._rest = parts, cuda, rest

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add the time of a block."""
        outer, self._inner = self._inner, 0.0
        start = self._now()
        yield
        seconds = self._now() - start
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds - self._inner
        self._inner = outer + seconds

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Count the time of a block, and its parts."""
        kept = [(owner, name, vars(owner).get(name)) for methods in self._parts.values()
                for owner, name in methods]
        for part, methods in self._parts.items():
            for owner, name in methods:
                setattr(owner, name, self._timed(part, getattr(owner, name)))
        start, cpu = self._now(), time.process_time()
        try:
            with self.phase(self._rest):
                yield
        finally:
            self.wall += self._now() - start
            self.cpu += time.process_time() - cpu
            for owner, name, own in kept:
                if own is None:
                    delattr(owner, name)
                else:
                    setattr(owner, name, own)

    def _now(self) -> float:
        if self._cuda:
            torch.cuda.synchronize()
        return time.perf_counter()

    def _timed(self, part: str, function: Callable) -> Callable:

        def timed(*args, **kwargs):
            if part in self.images:
                self.images[part] += len(args[0] if args else next(iter(kwargs.values())))
            with self.phase(part):
                return function(*args, **kwargs)

        return timed


def step_timer(model: GLUS) -> PartTimer:
    """The parts of a forward pass in training; what is recomputed later counts as backward."""
    head = model.mask_head
    return PartTimer({
        'vision tower': [(model.mllm.vision_tower, 'forward')],
        'SAM-2 encoder': [(head.sam2.image_encoder, 'forward')],
        'LLM forward': [(model.mllm, 'forward')],
        'decode + memory': [(head, 'forward'), (head.sam2.memory_encoder, 'forward')],
    }, next(model.parameters()).is_cuda, rest='losses and rest')


def run_alone(*command: object) -> dict[str, float]:
    """The JSON that a process of its own prints last.

    What it frees goes back to the system at once, so that the resident set is what is in use.
    """
    environment = dict(os.environ, MALLOC_MMAP_THRESHOLD_='65536', MALLOC_ARENA_MAX='1')
    out = subprocess.run([sys.executable, *map(str, command)], env=environment, check=True,
                         stdout=subprocess.PIPE, text=True)
    return json.loads(out.stdout.splitlines()[-1])


def resident_gb(key: str = 'VmHWM') -> float:
    """Largest resident set of this process so far, or with ``'VmRSS'`` the present one (Linux)."""
    for line in Path('/proc/self/status').read_text().splitlines():
        if line.startswith(f'{key}:'):
            return int(line.split()[1]) * 1024 / 1e9
    raise OSError(f'expected {key} in /proc/self/status, got none')


def write_figures(args: argparse.Namespace, **figures: Any) -> None:
    """Write the file that ``--json`` asks for."""
    if args.json:
        Path(args.json).parent.mkdir(parents=True, exist_ok=True)
        Path(args.json).write_text(json.dumps(
            dict(arguments=vars(args), torch=torch.__version__, **figures), indent=1))


class TrainStep:
    """Forward pass, backward pass and optimizer of a model, at a learning rate of 0.

    So that all variants meet the same weights at every step: the work is the same, the weights
    stay as they are.
    """

    def __init__(self, model: GLUS) -> None:
        self.model = model
        trained = [p for p in model.parameters() if p.requires_grad]
        self.optim = OptimWrapper(
            torch.optim.AdamW(trained, lr=0.0, betas=(0.9, 0.95), weight_decay=0.0),
            clip_grad=dict(max_norm=1.0))

    def use(self, variant: Variant) -> None:
        """Switch the model to a variant."""
        train_officially(self.model, variant.order == 'official')
        for name, value in MEMORY[variant.memory].items():
            setattr(self.model.mask_head, name, value)

    def __call__(self, batch: tuple, timer: PartTimer | None = None) -> dict[str, float]:
        """Do one step.

        Returns:
            The losses and the norm of the gradient, ``grad_norm``.
        """
        with timer.watch() if timer else nullcontext():
            losses = self.model(*batch, mode='loss')
        with timer.phase('backward') if timer else nullcontext():
            self.optim.backward(self.model.parse_losses(losses)[0])
        with timer.phase('optimizer') if timer else nullcontext():
            grads = [p.grad for p in self.model.parameters() if p.grad is not None]
            norm = torch.nn.utils.get_total_norm(grads).item()
            self.optim.step()
            self.optim.zero_grad()
        return {**{name: value.item() for name, value in losses.items()}, 'grad_norm': norm}
