"""A resumed run goes on with the samples that it would have seen, without loading the others."""

import logging
from itertools import chain, repeat

from mmengine.dist import get_world_size
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import IterBasedTrainLoop, Runner
from torch.utils.data import BatchSampler

from glus_mm.datasets.samplers import BaseVideoSampler
from glus_mm.engine.batches import Batches
from glus_mm.registry import HOOKS

_KEY = 'train_sampler'


@HOOKS.register_module()
class ResumeSamplerHook(Hook):
    """Let the sampler of a resumed run start where the run was interrupted.

    MMEngine 0.10's ``IterBasedTrainLoop`` loads as many batches as the run had trained on and
    throws them away; at the end of a long training that takes hours. Here a ``BaseVideoSampler``
    jumps ahead instead, and the loop is handed nothings to throw away. (Workers begin with their
    first ``prefetch_factor`` batches before a checkpoint is read; those are lost. onedl-mmengine
    starts them later, and skips without loading where there are no workers.)

    The position in the sequence of samples is kept in MMEngine's message hub, which every
    checkpoint holds. It counts the samples of all processes, so that a run may go on with another
    number of processes or another batch size: it takes the very next samples, and a warning says
    that an iteration now means something else. A checkpoint without it counts as one of this
    number of processes and this batch size.

    Other samplers, batch samplers and loops are left to MMEngine.
    """

    priority = 'NORMAL'

    def before_train(self, runner: Runner) -> None:
        """Skip what the run has seen, and note where it stands."""
        loop = runner.train_loop
        batches = loop.dataloader.batch_sampler if isinstance(loop, IterBasedTrainLoop) else None
        # Only there do batches follow the sampler's order.
        if type(batches) is not BatchSampler or not isinstance(batches.sampler, BaseVideoSampler):
            return
        sampler, batch_size, position = batches.sampler, batches.batch_size, 0
        if runner.iter > 0:
            position = self._resume(runner, sampler, batch_size)
            # Lets the workers go before new ones start.
            loop.dataloader_iterator = None
            loop.dataloader_iterator = Batches(
                chain(repeat(None, runner.iter), iter(loop.dataloader)))
        runner.message_hub.update_info(_KEY, dict(
            iter=runner.iter, position=position, batch_size=batch_size,
            processes=get_world_size(), sampler=sampler.state_dict()))

    def _resume(self, runner: Runner, sampler: BaseVideoSampler, batch_size: int) -> int:
        """Bring the sampler to the first sample that the run has not seen; return its position."""
        processes = get_world_size()
        then = runner.message_hub.get_info(_KEY)
        if then is None:
            position = runner.iter * batch_size * processes
            print_log(f'the checkpoint does not tell how many samples its run had seen; assumed '
                      f'{processes} processes of {batch_size} samples per iteration', 'current',
                      logging.WARNING)
        else:
            sampler.load_state_dict(then['sampler'])
            position = then['position'] + (runner.iter - then['iter']) * then['batch_size'] \
                * then['processes']
            if (then['processes'], then['batch_size']) != (processes, batch_size):
                print_log(
                    f'an iteration had {then["processes"]} x {then["batch_size"]} samples '
                    f'(processes x batch_size) when the checkpoint was written, and has '
                    f'{processes} x {batch_size} now: the order of samples goes on as it was, but '
                    f'the learning rate and max_iters mean something else', 'current',
                    logging.WARNING)
        sampler.skip_to(position)
        print_log(f'the data goes on at sample {position}; none of those before are loaded',
                  'current')
        return position
