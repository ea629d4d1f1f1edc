"""Stop a run whose loss is NaN or infinite, before it does damage, and say on which samples."""

import logging
import math
from collections.abc import Mapping
from typing import Any

import torch
from mmengine.dist import (
    all_gather_object,
    all_reduce,
    barrier,
    broadcast_object_list,
    is_main_process,
)
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from glus_mm.registry import HOOKS
from glus_mm.utils.checkpoint_files import newest_whole
from glus_mm.utils.modules import unwrapped

NORM = 'train/grad_norm'
_LAST = 5


@HOOKS.register_module()
class FiniteLossHook(Hook):
    """Stop every process when the loss, or the norm of the gradients, is NaN or infinite.

    It stops before the optimizer takes the step, and raises an error with the iteration, the
    losses, the videos and the expressions. With several processes all of them stop, and the message
    is about those in which it happened. It saves nothing: the run goes on from its last checkpoint,
    which the error names. Whether that is still a good one only people can tell: the error has the
    last losses, norms and learning rates, and the largest weight.

    The check looks at the sum of all losses (whatever the model's output has under a name with
    "loss"), and at the norm that gradient clipping computes (``clip_grad`` of the optimizer
    wrapper), since finite losses may have gradients that are not. Not with a loss scaler, for
    which infinite gradients are normal.

    Cost: the device is waited for once after the forward pass, and several processes exchange one
    number. With DeepSpeed the norm is not checked.

    The model has to be one of MMEngine's ``BaseModel``: it is watched by a forward hook.
    """

    # Before anything notes that the iteration has happened.
    priority = 'HIGHEST'

    def __init__(self) -> None:
        self._handles: list[Any] = []
        self._sees_steps = False
        # Of the batches since the last step of the optimizer; strings, to hold no images.
        self._batches: list[str] = []

    def before_train(self, runner: Runner) -> None:
        """Begin to watch the model and the optimizer."""
        self.after_train(runner)

        def after_forward(module: nn.Module, args: tuple, kwargs: dict, output: Any) -> None:
            if module.training and kwargs.get('mode') == 'loss' and isinstance(output, dict):
                self._check_loss(runner, module.parse_losses(output)[1])

        def before_step(optimizer: torch.optim.Optimizer, args: tuple, kwargs: dict) -> None:
            self._check_norm(runner)
            self._batches.clear()

        model = unwrapped(runner.model)
        self._handles = [model.register_forward_hook(after_forward, with_kwargs=True)]
        wrapper = runner.optim_wrapper
        # DeepSpeed calls the optimizer in the midst of its own step, which must not be interrupted.
        self._sees_steps = isinstance(wrapper, OptimWrapper) and \
            type(wrapper).update_params is OptimWrapper.update_params
        if self._sees_steps:
            self._handles.append(wrapper.optimizer.register_step_pre_hook(before_step))

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Note what the batch consists of.

        Args:
            data_batch: ``data_samples`` of it are named in the error.
        """
        if not self._sees_steps:
            self._batches.clear()
        self._batches.append(_describe(data_batch))

    def after_train(self, runner: Runner) -> None:
        """Stop watching."""
        for handle in self._handles:
            handle.remove()
        self._handles, self._batches = [], []

    def _check_loss(self, runner: Runner, losses: Mapping[str, Tensor]) -> None:
        finite = torch.as_tensor(losses['loss']).detach().isfinite().float()
        all_reduce(finite, 'min')
        if finite.item():
            return
        values = {name: value.item() for name, value in losses.items()}
        text = ', '.join(f'{name} {value:.6g}' for name, value in values.items())
        self._stop(runner, 'loss', None if math.isfinite(values['loss']) else
                   f'{text}\n{self._batches[-1]}')

    def _check_norm(self, runner: Runner) -> None:
        wrapper = runner.optim_wrapper
        if hasattr(wrapper, 'loss_scaler') or not wrapper.clip_grad_kwargs or \
                wrapper.grad_name != 'grad_norm':
            return
        norm = float(runner.message_hub.get_scalar(NORM).current())
        if math.isfinite(norm):
            return
        batches = '\n'.join(self._batches)
        # Gradients are averaged over the processes: all of them are here.
        self._stop(runner, 'norm of the gradients', f'grad_norm {norm:.6g}\n{batches}')

    def _stop(self, runner: Runner, what: str, report: str | None) -> None:
        """Raise the same error in every process.

        Args:
            what: what is not finite.
            report: values and samples of this process; None where all is well.

        Raises:
            FloatingPointError: in any case.
        """
        reports = all_gather_object(report)
        lines = [f'the {what} is not finite in iteration {runner.iter + 1}']
        for rank, text in enumerate(reports):
            if text is not None:
                place = f'process {rank} of {len(reports)}: ' if len(reports) > 1 else ''
                lines.append(f'{place}{text}')
        told = [_known(runner)]
        broadcast_object_list(told)  # losses in the log are those of the first process
        message = '\n'.join([*lines, *told])
        if is_main_process():
            print_log(message, 'current', logging.ERROR)
        # A launcher ends the other processes as soon as one has failed.
        barrier()
        raise FloatingPointError(message)


def _known(runner: Runner) -> str:
    """Where to go on, and what tells a state that is well from one that a step has ruined."""
    largest = {name: torch.stack(torch.aminmax(value)).abs().max().item()
               for name, value in unwrapped(runner.model).state_dict().items()
               if value.is_floating_point() and value.numel()}
    bad = [name for name, value in largest.items() if not math.isfinite(value)]
    newest, earlier = (newest_whole(runner.work_dir, before)[0] for before in (None, runner.iter))
    lines, parts = [], []
    if bad:
        lines.append(f'{len(bad)} weights are not finite themselves, such as {bad[0]}')
    if newest is None:
        lines.append('there is no checkpoint yet: the run has to begin anew')
    else:
        instead = 'a start from the beginning' if earlier is None else f'--resume {earlier}'
        lines.append(f'the newest checkpoint is {newest}, from where --resume goes on. Whether it '
                     'is a good one, or a step before has ruined the weights, is not known: where '
                     f'these numbers had begun to grow, {instead} is safer')
    for key, name in (('train/loss', 'loss'), (NORM, 'grad_norm'), ('train/lr', 'lr')):
        history = runner.message_hub.log_scalars.get(key)
        values = [] if history is None else list(history.data[0][-_LAST:])
        if values:
            parts.append(f'{name} {", ".join(f"{value:.4g}" for value in values)}')
    name = max(largest, key=lambda key: (not math.isfinite(largest[key]), largest[key]))
    parts.append(f'largest weight {largest[name]:.4g} in {name}')
    return '\n'.join([*lines, f'the last {_LAST} iterations and steps: ' + '; '.join(parts)])


def _describe(data_batch: Any) -> str:
    """Name the samples of a batch, one per line."""
    samples = data_batch.get('data_samples') if isinstance(data_batch, dict) else None
    if not isinstance(samples, (list, tuple)):
        return f'  a batch of {type(data_batch).__name__} without data samples'
    lines = []
    for sample in samples:
        if not isinstance(sample, BaseDataElement):
            line = type(sample).__name__
        elif 'video_id' not in sample:
            line = ', '.join(f'{key}={value!r}' for key, value in sample.metainfo_items())
        else:
            expressions = ', '.join(f'{exp_id!r} {text!r}' for exp_id, text in zip(
                sample.exp_ids, sample.expressions))
            line = (f'{sample.get("dataset")}, video {sample.video_id!r}, context frames '
                    f'{sample.get("context_frame_ids")}, query frames '
                    f'{sample.get("query_frame_ids")}, expressions: {expressions}')
        lines.append(f'  {line}')
    return '\n'.join(lines)
