"""Backward pass and step of an optimizer that DeepSpeed has taken over."""

from typing import Any

import torch
from mmengine.optim import OptimWrapper
from torch import Tensor, nn
from torch.optim import Optimizer

from glus_mm.registry import OPTIM_WRAPPERS


@OPTIM_WRAPPERS.register_module()
class ZeroOptimWrapper(OptimWrapper):
    """MMEngine's ``OptimWrapper`` for :class:`SafeDeepSpeedStrategy`, with the same arguments.

    Accumulation and clipping are DeepSpeed's, set from here by the strategy, so that a config turns
    from DDP to DeepSpeed without repeating its numbers. Micro-batches at the end of a training
    that do not make a whole step are not used.

    Args:
        accumulative_counts: micro-batches of a step.
        clip_grad: ``dict(max_norm=...)``, the only kind of clipping that DeepSpeed has.

    Raises:
        ValueError: another kind of clipping.
    """

    model: Any  # DeepSpeed's engine; set by the strategy

    def __init__(self, optimizer: Optimizer, accumulative_counts: int = 1,
                 clip_grad: dict | None = None) -> None:
        super().__init__(optimizer, accumulative_counts, clip_grad)
        self._ordered: Tensor | float = 0.0
        if self.clip_grad_kwargs and set(self.clip_grad_kwargs) != {'max_norm'}:
            raise ValueError('optim_wrapper.clip_grad: DeepSpeed clips by dict(max_norm=...) only, '
                             f'got {dict(self.clip_grad_kwargs)}')

    @property
    def accumulative_counts(self) -> int:
        """Micro-batches of a step."""
        return self._accumulative_counts

    @property
    def max_norm(self) -> float:
        """Norm to which gradients are clipped; 0 for none."""
        return float((self.clip_grad_kwargs or {}).get('max_norm', 0))

    def order_gradients(self, module: nn.Module, *_: object) -> None:
        """Let the gradients of a forward pass be done in one order, the same in all processes.

        ZeRO-1 and 2 add the gradients of processes up one after another as the backward pass is
        done with them, without a look at what they are gradients of. Where one process has only
        talk and another one has masks, or clicks on other frames, their passes differ in order
        and in which parameters they reach, so that different ones would be added up. Autograd runs
        nodes that were made first last. So zeros from here reach every parameter after all else.
        """
        if torch.is_grad_enabled():
            self._ordered = torch.cat([
                p.flatten()[:0] for p in module.parameters() if p.requires_grad]).sum()

    def update_params(self, loss: Tensor, step_kwargs: dict | None = None,
                      zero_kwargs: dict | None = None) -> None:
        """Hand a micro-batch to DeepSpeed, which scales, accumulates, averages, clips and steps.

        The loss is a scalar; ``step_kwargs`` and ``zero_kwargs`` have no effect.
        """
        self.backward(loss)
        self.step()

    def backward(self, loss: Tensor, **kwargs: object) -> None:
        """Gradients of a micro-batch.

        Args:
            loss: the loss, which DeepSpeed divides by the number of micro-batches.

        The loss is a scalar.
        """
        self.model.backward(loss + self._ordered)
        self._inner_count += 1

    def step(self, **kwargs: object) -> None:
        """Let DeepSpeed take the step, if this micro-batch completes one."""
        before = self.model.global_steps
        self.model.step()
        norm = self.model.get_global_grad_norm()
        if self.model.global_steps > before and norm is not None:
            self.message_hub.update_scalar('train/grad_norm', float(norm))

    def should_update(self) -> bool:
        """Whether no gradients are being accumulated."""
        return self._inner_count % self._accumulative_counts == 0
