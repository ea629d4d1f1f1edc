"""Look after the token bank of a contrastive loss: saving, resuming, logging, warm-up check."""

import logging
from typing import Any

import torch
from mmengine.dist import all_gather, get_dist_info
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import Runner

from glus_mm.models.losses import ObjectContrastiveLoss
from glus_mm.registry import HOOKS
from glus_mm.utils.checked import checked
from glus_mm.utils.modules import unwrapped

KEY = 'token_bank'


@HOOKS.register_module()
class TokenBankHook(Hook):
    """Keep the bank of an :class:`ObjectContrastiveLoss` through stops and resumes.

    Every process has a bank of its own, and only one process writes a checkpoint. After each
    iteration the processes therefore exchange their banks (0.5 MB each at 512 x 256), and every
    checkpoint holds them all, as they were after the last whole iteration, as plain tensors under
    ``token_bank``: next to the weights, not among them, so that the weights fit any model. A
    resumed run goes on with the same bank and the same draws in every process. Where it has
    another number of processes each takes one of the saved banks, with a warning. A checkpoint
    that training merely starts from leaves the bank empty.

    The bank's size goes to the log as ``token_bank_size``.

    It does nothing for a model without an ``ObjectContrastiveLoss``. With several processes each
    has to call the loss in every iteration, as ``GLUS`` does.

    Args:
        warmup_iters: check after so many calls of the loss whether it works at all: whether any
            batch had a positive, and whether the bank ever offered enough negatives.
        strict: raise if it does not work, instead of warning.

    Raises:
        ValueError: ``warmup_iters`` is no positive integer.
    """

    priority = 'NORMAL'  # before the checkpoint is written, which is VERY_LOW

    def __init__(self, warmup_iters: int = 100, strict: bool = False) -> None:
        checked(1, warmup_iters=warmup_iters)
        self.warmup_iters = warmup_iters
        self.strict = strict
        self._loss: ObjectContrastiveLoss | None = None
        self._loaded: dict | None = None
        self._states: list[dict[str, torch.Tensor]] | None = None

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Take the banks out of a checkpoint; whether they are used is seen in ``before_train``."""
        self._loaded = checkpoint.pop(KEY, None)

    def before_train(self, runner: Runner) -> None:
        """Put the saved contents into the bank of this process if the run is a resumed one.

        Raises:
            ValueError: the parallel wrapper would overwrite the banks, the model has several
                contrastive losses, or a name in the loss's ``datasets`` is that of no data set.
        """
        losses = [module for module in unwrapped(runner.model).modules()
                  if isinstance(module, ObjectContrastiveLoss)]
        if len(losses) > 1:
            raise ValueError('expected one ObjectContrastiveLoss in the model, got '
                             f'{len(losses)}')
        self._loss = loss = losses[0] if losses else None
        loaded, self._loaded = self._loaded, None
        if loss is None:
            return
        if getattr(runner.model, 'broadcast_buffers', False) and not loss.gather:
            raise ValueError('expected broadcast_buffers=False in model_wrapper_cfg or gather=True '
                             'in loss_contrastive, got neither: the token bank of the first '
                             'process would replace all others in every iteration')
        # A misspelt name would leave a data set out without a word.
        dataset = runner.train_dataloader.dataset
        names = {str(child.metainfo['dataset']) for child in getattr(dataset, 'datasets', [dataset])
                 if 'dataset' in getattr(child, 'metainfo', {})}
        unknown = sorted((loss.datasets or frozenset()) - names)
        if unknown and names:
            raise ValueError(f'model.loss_contrastive.datasets: expected names of the data sets of '
                             f'the training, {sorted(names)}, got {unknown}')
        if runner.iter == 0:
            return
        if loaded is None:
            print_log(f'the checkpoint of iteration {runner.iter} holds no token bank: it starts '
                      'empty', 'current', logging.WARNING)
            return
        states, (rank, world_size) = loaded['ranks'], get_dist_info()
        if not loss.gather and len(states) != world_size:
            print_log(f'the checkpoint of iteration {runner.iter} holds the token banks of '
                      f'{len(states)} processes, this run has {world_size}: process r takes bank '
                      f'r modulo {len(states)}', 'current', logging.WARNING)
        loss.load_resume_state(states[0 if loss.gather else rank % len(states)])
        print_log(f'the token bank goes on with {len(loss.bank)} tokens', 'current')
        self._states = _exchange(loss)

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None,
                         outputs: dict | None = None) -> None:
        """Log the bank's size, exchange the banks and check that the loss works.

        Raises:
            ValueError: with ``strict``, the loss does not work.
        """
        loss = self._loss
        if loss is None:
            return
        runner.message_hub.update_scalar('train/token_bank_size', len(loss.bank))
        self._states = _exchange(loss)
        if loss.calls == self.warmup_iters:
            self._check(loss)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Add the banks of all processes to a checkpoint."""
        if self._states is not None:
            checkpoint[KEY] = dict(ranks=[
                {name: value.cpu() for name, value in state.items()} for state in self._states])

    def _check(self, loss: ObjectContrastiveLoss) -> None:
        """Say what is wrong if no token could count so far in any process."""
        tally = sum(state['tally'].cpu() for state in self._states)
        statistics = dict(zip(loss.STATISTICS, tally.tolist()))
        wrong = []
        if not statistics['with_positives']:
            wrong.append('no token had a positive, another expression of the same objects in the '
                         'same video: check that the data samples have object_ids and that '
                         'several expressions of a video are sampled together')
        if not statistics['with_negatives']:
            wrong.append(f'no token had {loss.num_negatives} negatives: the bank holds '
                         f'{len(loss.bank)} of {loss.bank.size} tokens; enlarge it, or lower '
                         'num_negatives')
        if not wrong and not statistics['tokens']:
            wrong.append('no token had a positive and enough negatives at once')
        if not wrong:
            return
        text = (f'the contrastive loss was 0 in all of {self.warmup_iters} calls; '
                + '; '.join(wrong))
        if self.strict:
            raise ValueError(text)
        print_log(text, 'current', logging.WARNING)


def _exchange(loss: ObjectContrastiveLoss) -> list[dict[str, torch.Tensor]]:
    """What each process must remember; one entry for all where the banks are shared."""
    state = loss.resume_state()
    if loss.gather or get_dist_info()[1] == 1:
        return [state]
    device = loss.bank.tokens.device
    columns = {name: all_gather(value.to(device)) for name, value in state.items()}
    return [dict(zip(columns, values)) for values in zip(*columns.values())]
