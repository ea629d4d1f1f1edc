"""A training step in one of several ways, and where its time goes."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from mmengine.optim import OptimWrapper
from official_order import train_officially
from torch import nn

from glus_mm.models import GLUS

PHASES = ('vision tower', 'SAM-2 encoder', 'LLM forward', 'decode + memory', 'losses and rest',
          'backward', 'optimizer')
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


class PhaseTimer:
    """Adds up the seconds of the parts of a forward pass; waits for the device at each border.

    Args:
        model: the model whose parts are watched while :meth:`watch` is active.
    """

    def __init__(self, model: GLUS) -> None:
        self.seconds = dict.fromkeys(PHASES, 0.0)
        self._cuda = next(model.parameters()).is_cuda
        self._parts = {
            'vision tower': [model.mllm.vision_tower],
            'SAM-2 encoder': [model.mask_head.sam2.image_encoder],
            'LLM forward': [model.mllm],
            'decode + memory': [model.mask_head, model.mask_head.sam2.memory_encoder],
        }
        self._start = 0.0

    def now(self) -> float:
        """Seconds on a clock, after all work so far."""
        if self._cuda:
            torch.cuda.synchronize()
        return time.perf_counter()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add the time of a block."""
        start = self.now()
        yield
        self.seconds[name] += self.now() - start

    @contextmanager
    def forward(self) -> Iterator[None]:
        """Time a forward pass and its parts; what is recomputed later counts as backward."""
        handles = [hook for name, modules in self._parts.items() for module in modules
                   for hook in self._hooks(name, module)]
        before = sum(self.seconds[name] for name in self._parts)
        start = self.now()
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()
        parts = sum(self.seconds[name] for name in self._parts) - before
        self.seconds['losses and rest'] += self.now() - start - parts

    def _hooks(self, name: str, module: nn.Module) -> list:

        def enter(*_) -> None:
            self._start = self.now()

        def leave(*_) -> None:
            self.seconds[name] += self.now() - self._start

        return [module.register_forward_pre_hook(enter), module.register_forward_hook(leave)]


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

    def __call__(self, batch: tuple, timer: PhaseTimer | None = None) -> dict[str, float]:
        """Do one step.

        Args:
            batch: inputs and data samples.
            timer: gets the seconds of each part.

        Returns:
            The losses and the norm of the gradient, ``grad_norm``.
        """
        if timer is None:
            losses = self.model(*batch, mode='loss')
            self.optim.backward(self.model.parse_losses(losses)[0])
            norm = self._update()
        else:
            with timer.forward():
                losses = self.model(*batch, mode='loss')
            with timer.phase('backward'):
                self.optim.backward(self.model.parse_losses(losses)[0])
            with timer.phase('optimizer'):
                norm = self._update()
        return {**{name: value.item() for name, value in losses.items()}, 'grad_norm': norm}

    def _update(self) -> float:
        grads = [p.grad for p in self.model.parameters() if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(grads).item()
        self.optim.step()
        self.optim.zero_grad()
        return norm
