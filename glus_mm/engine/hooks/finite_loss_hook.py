"""Stop a run whose loss is NaN or infinite, before it does damage, and say on which samples."""

import logging
import math
from collections.abc import Sequence
from typing import Any

import torch
from mmengine.dist import (
    all_gather_object,
    barrier,
    broadcast_object_list,
    get_dist_info,
    is_main_process,
)
from mmengine.hooks import CheckpointHook, Hook
from mmengine.logging import HistoryBuffer, print_log
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement
from torch import Tensor, distributed, nn

from glus_mm.engine.random_state import random_state, set_random_state
from glus_mm.engine.run_randomness import KEY as RANDOM
from glus_mm.registry import HOOKS
from glus_mm.utils.checkpoint_files import newest_whole, note_checkpoint

NORM = 'train/grad_norm'
_NO_MODULES = nn.Module()
_LAST = 5


@HOOKS.register_module()
class FiniteLossHook(Hook):
    """Stop every process when the loss, or the norm of the gradients, is NaN or infinite.

    It stops before the optimizer takes the step, saves the state as it was after the last whole
    iteration as ``iter_<n>.pth``, from which ``--resume`` goes on, and raises an error with the
    iteration, the losses, the videos and the expressions. With several processes all of them stop,
    and the message is about those in which it happened. The checkpoint is one more than
    ``max_keep_ckpts`` allows. Whether that state is still a good one only people can tell: the
    error has the last losses, norms and learning rates, and the largest weight. With gradient
    accumulation the gradients since the last step of the optimizer are lost, as no checkpoint
    holds gradients. Nothing is saved where weights are not finite themselves.

    The check looks at the sum of all losses (whatever the model's output has under a name with
    "loss"), and at the norm that gradient clipping computes (``clip_grad`` of the optimizer
    wrapper), since finite losses may have gradients that are not. Not with a loss scaler, for
    which infinite gradients are normal.

    Cost: one comparison on the device in the forward pass, with several processes also the
    exchange of one number, during the backward pass. The result is read where MMEngine waits for
    the device anyway (for the norm of the gradients, and for the losses that it logs), so that the
    device is waited for no more often than without this hook. With DeepSpeed it is read right after
    the forward pass, and the norm is not checked.

    The model has to be one of MMEngine's ``BaseModel``: it is watched by a forward hook.
    """

    # Before anything notes that the iteration has happened.
    priority = 'HIGHEST'

    def __init__(self) -> None:
        self._handles: list[Any] = []
        self._deferred = False
        self._losses: dict[str, Tensor] | None = None
        self._finite: Tensor | None = None
        self._work: distributed.Work | None = None
        # Of the batches since the last step of the optimizer; strings, to hold no images.
        self._batches: list[str] = []
        self._random: dict | None = None
        self._saved_random: list[dict] | None = None

    def before_train(self, runner: Runner) -> None:
        """Begin to watch the model and the optimizer."""
        self._release()

        def after_forward(module: nn.Module, args: tuple, kwargs: dict, output: Any) -> None:
            if module.training and kwargs.get('mode') == 'loss' and isinstance(output, dict):
                self._check_loss(runner)
                self._note(output)
                if not self._deferred:
                    self._check_loss(runner)

        def before_step(optimizer: torch.optim.Optimizer, args: tuple, kwargs: dict) -> None:
            self._check_loss(runner)
            self._check_norm(runner)
            self._batches.clear()

        self._handles = [_unwrapped(runner).register_forward_hook(after_forward, with_kwargs=True)]
        wrapper = runner.optim_wrapper
        # DeepSpeed calls the optimizer in the midst of its own step, which must not be interrupted.
        self._deferred = isinstance(wrapper, OptimWrapper) and \
            type(wrapper).update_params is OptimWrapper.update_params
        if self._deferred:
            self._handles.append(wrapper.optimizer.register_step_pre_hook(before_step))

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Note what the batch consists of, and where the random numbers stand.

        Args:
            data_batch: ``data_samples`` of it are named in the error.
        """
        if not self._deferred:
            self._batches.clear()
        self._batches.append(_describe(data_batch))
        # Without generators that modules hold: to look for them takes milliseconds.
        self._random = random_state(_NO_MODULES)

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None,
                         outputs: dict | None = None) -> None:
        """Check the loss where the optimizer took no step.

        Raises:
            FloatingPointError: it is not finite.
        """
        self._check_loss(runner)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Let a checkpoint that is saved here be one before the iteration."""
        if self._saved_random is not None:
            checkpoint[RANDOM] = dict(ranks=self._saved_random)
            if 'meta' in checkpoint:  # MMEngine's FlexibleRunner counts the running iteration
                checkpoint['meta'].update(epoch=runner.epoch, iter=runner.iter)

    def after_train(self, runner: Runner) -> None:
        """Stop watching."""
        self._release()

    def _release(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles, self._batches = [], []
        self._losses = self._finite = self._work = None

    def _note(self, output: dict) -> None:
        """Begin to find out whether the losses of a forward pass are finite in every process."""
        self._losses = {name: _scalar(value) for name, value in output.items()}
        total = sum(value for name, value in self._losses.items() if 'loss' in name)
        self._finite = torch.as_tensor(total).isfinite().float()
        self._work = None
        if get_dist_info()[1] > 1:
            self._work = distributed.all_reduce(
                self._finite, distributed.ReduceOp.MIN, async_op=True)

    def _check_loss(self, runner: Runner) -> None:
        finite, self._finite = self._finite, None
        if finite is None:
            return
        if self._work is not None:
            self._work.wait()
        if finite.item():
            return
        values = {name: value.item() for name, value in self._losses.items()}
        values = {'loss': sum(v for name, v in values.items() if 'loss' in name), **values}
        report = None
        if not math.isfinite(values['loss']):
            text = ', '.join(f'{name} {value:.6g}' for name, value in values.items())
            report = f'{text}\n{self._batches[-1]}'
        self._stop(runner, 'loss', report)

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
        """Save, and raise the same error in every process.

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
        message = '\n'.join(lines)
        if is_main_process():  # first of all, whatever may go wrong below
            print_log(message, 'current', logging.ERROR)
        told = [self._save(runner)]
        broadcast_object_list(told)  # losses in the log are those of the first process
        saved = told[0]
        if is_main_process():
            print_log(saved, 'current', logging.ERROR)
        # A launcher ends the other processes as soon as one has failed; the file is whole by now.
        barrier()
        raise FloatingPointError(f'{message}\n{saved}')

    def _save(self, runner: Runner) -> str:
        """Save the state before the iteration; returns what to tell about it."""
        model = _unwrapped(runner)
        largest = {name: torch.stack(torch.aminmax(value)).abs().max().item()
                   for name, value in model.state_dict().items()
                   if value.is_floating_point() and value.numel()}
        bad = [name for name, value in largest.items() if not math.isfinite(value)]
        known = _known(runner, largest)
        if bad:
            return (f'nothing was saved, as {len(bad)} weights are not finite themselves, such as '
                    f'{bad[0]}: go back to an earlier checkpoint\n{known}')
        earlier, _ = newest_whole(runner.work_dir, runner.iter)
        _forget_last_norm(runner)
        set_random_state(self._random, _NO_MODULES)
        self._saved_random = all_gather_object(random_state(model))
        hook = next((h for h in runner.hooks if isinstance(h, CheckpointHook)), None)
        folder = getattr(hook, 'out_dir', None) or runner.work_dir
        path = f'{folder}/iter_{runner.iter}.pth'
        try:
            runner.save_checkpoint(
                folder, f'iter_{runner.iter}.pth', by_epoch=False,
                meta=dict(epoch=runner.epoch, iter=runner.iter),
                backend_args=getattr(hook, 'backend_args', None))
            if is_main_process():
                note_checkpoint(runner.work_dir, path)
        except OSError as error:
            return f'the state before it could not be saved: {error}'
        finally:
            self._saved_random = None
        instead = f'--resume {earlier}' if earlier is not None else 'a start from the beginning'
        return (f'the state before it is in {path}, from where --resume goes on with the same '
                'samples. Whether it is a good one, or a step before has ruined the weights, is '
                f'not known: where these numbers had begun to grow, {instead} is safer\n{known}')


def _known(runner: Runner, largest: dict[str, float]) -> str:
    """What tells a state that is well from one that an earlier step has ruined.

    Args:
        runner: the runner, whose message hub has losses and norms.
        largest: for each weight the largest absolute value in it.
    """
    parts = []
    for key, name in (('train/loss', 'loss'), (NORM, 'grad_norm'), ('train/lr', 'lr')):
        history = runner.message_hub.log_scalars.get(key)
        values = [] if history is None else list(history.data[0][-_LAST:])
        if values:
            parts.append(f'{name} {", ".join(f"{value:.4g}" for value in values)}')
    name = max(largest, key=lambda key: (not math.isfinite(largest[key]), largest[key]))
    parts.append(f'largest weight {largest[name]:.4g} in {name}')
    return f'the last {_LAST} iterations and steps: ' + '; '.join(parts)


def _unwrapped(runner: Runner) -> nn.Module:
    return runner.model.module if is_model_wrapper(runner.model) else runner.model


def _scalar(value: Tensor | Sequence[Tensor]) -> Tensor:
    """As MMEngine's ``parse_losses`` reads an output of a model."""
    if isinstance(value, Tensor):
        return value.detach().mean()
    return sum(item.detach().mean() for item in value)


def _describe(data_batch: Any) -> str:
    """Name the samples of a batch, one per line."""
    samples = data_batch.get('data_samples') if isinstance(data_batch, dict) else None
    if not isinstance(samples, (list, tuple)):
        return f'  a batch of {type(data_batch).__name__} without data samples'
    return '\n'.join(f'  {_name(sample)}' for sample in samples)


def _name(sample: Any) -> str:
    if not isinstance(sample, BaseDataElement):
        return type(sample).__name__
    if 'video_id' not in sample:
        return ', '.join(f'{key}={value!r}' for key, value in sample.metainfo_items())
    expressions = ', '.join(f'{exp_id!r} {text!r}'
                            for exp_id, text in zip(sample.exp_ids, sample.expressions))
    return (f'{sample.get("dataset")}, video {sample.video_id!r}, context frames '
            f'{sample.get("context_frame_ids")}, query frames {sample.get("query_frame_ids")}, '
            f'expressions: {expressions}')


def _forget_last_norm(runner: Runner) -> None:
    """Take a norm that belongs to no whole iteration out of the log of a resumed run."""
    history = runner.message_hub.log_scalars.get(NORM)
    if history is not None:
        values, counts = history.data
        if len(values) and not math.isfinite(values[-1]):
            runner.message_hub.log_scalars[NORM] = HistoryBuffer(
                values[:-1], counts[:-1], history.max_length)
