"""Save at the next step, and end, when a run is asked to go."""

import logging
from typing import Any

import torch
from mmengine.dist import get_comm_device, get_world_size
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import Runner
from torch import Tensor, distributed

from glus_mm.engine.hooks.safe_checkpoint_hook import SafeCheckpointHook
from glus_mm.engine.preemption import Preempted, current
from glus_mm.registry import HOOKS
from glus_mm.utils.checkpoint_files import newest_whole


@HOOKS.register_module()
class PreemptionHook(Hook):
    """Write a checkpoint and end with status 75 after SIGTERM or SIGUSR1.

    ``tools/train.py`` notices the signals, see :class:`glus_mm.engine.preemption.Preemption`;
    without it the hook does nothing. The checkpoint is written after the iteration that runs, with
    gradient accumulation after the next step of the optimizer; a validation is finished first, and
    so is a run in its last iteration. With several processes all of them end after the same
    iteration, also where one alone got the signal. ``--resume`` goes on from there, bit for bit.

    Cost: with several processes the exchange of one number during each iteration.

    It needs a :class:`SafeCheckpointHook`, and iterations (``by_epoch=False``): a run that counts
    epochs ends without saving.
    """

    priority = 'LOWEST'  # after the hook that may have saved the same iteration

    def __init__(self) -> None:
        self._flag: Tensor | None = None
        self._work: distributed.Work | None = None

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Begin to ask all processes whether one of them has to go."""
        here = current()
        if here is None or get_world_size() == 1:
            return
        self._flag = torch.tensor(float(here.reason is not None), device=get_comm_device())
        self._work = distributed.all_reduce(
            self._flag, distributed.ReduceOp.MAX, async_op=True)

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None,
                         outputs: dict | None = None) -> None:
        """Save and end, if it is time to.

        Raises:
            Preempted: the run ends here, with status 75.
        """
        here = current()
        if here is None:
            return
        wanted = here.reason is not None
        if self._work is not None:
            self._work.wait()
            wanted, self._work = bool(self._flag.item()), None
        if not wanted or runner.iter + 1 >= runner.max_iters:
            return
        hook = next((h for h in runner.hooks if isinstance(h, SafeCheckpointHook)), None)
        path = None
        if hook is not None and not hook.by_epoch:
            path = hook.save_now(runner, runner.iter + 1)
            if path is None:  # gradients are being accumulated
                return
        else:
            path, _ = newest_whole(runner.work_dir)
        reason = here.reason or 'another process was asked to'
        print_log(f'ended after iteration {runner.iter + 1} ({reason}); --resume goes on from '
                  f'{path or "the start"}', 'current', logging.WARNING)
        raise Preempted
