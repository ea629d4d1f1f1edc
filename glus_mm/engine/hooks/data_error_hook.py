"""When loading data fails, the state of the training is saved first."""

import logging
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any

from mmengine.dist import get_dist_info
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import IterBasedTrainLoop, Runner
from torch.utils.data import DataLoader

from glus_mm.engine.batches import Batches
from glus_mm.engine.hooks.safe_checkpoint_hook import SafeCheckpointHook
from glus_mm.registry import HOOKS
from glus_mm.utils.checkpoint_files import newest_whole

# How torch's messages about a worker that is gone begin.
_GONE = 'DataLoader worker'
# How long to wait for the system to report a process that is gone, in seconds.
_PATIENCE = 1.0


@HOOKS.register_module()
class DataErrorHook(Hook):
    """Save a checkpoint before an error of the training data ends the run.

    That may be a file that cannot be read, or a worker that died: the system kills one when
    memory runs out. torch notices a dead worker at any moment, also in the middle of an
    optimizer step, from where a run cannot go on; here it waits for the end of the iteration.

    A state is saved where there is one process: with several the others still wait for this one,
    so that only the checkpoints at the usual intervals are there. It is not saved in the middle of
    a gradient accumulation either. The message says what was done. It needs a
    ``SafeCheckpointHook``, and ``IterBasedTrainLoop``; other loops are left alone.
    """

    priority = 'LOWEST'  # after all others have changed the loop's iterator

    def before_train(self, runner: Runner) -> None:
        """Watch over the training data."""
        loop = runner.train_loop
        if isinstance(loop, IterBasedTrainLoop):
            loop.dataloader_iterator = _Watched(runner, loop.dataloader_iterator)

    def after_train(self, runner: Runner) -> None:
        """Leave the signals as they were."""
        iterator = getattr(runner.train_loop, 'dataloader_iterator', None)
        if isinstance(iterator, _Watched):
            iterator.release()


class _Watched(Batches):
    """The batches of a training; errors save its state.

    Args:
        batches: the loop's iterator.
    """

    def __init__(self, runner: Runner, batches: Iterator) -> None:
        super().__init__(batches)
        self.runner = runner
        self.first = runner.iter
        self.waiting = False
        self.late: tuple[int, FrameType | None] | None = None
        self.handler = None
        loader: DataLoader = runner.train_loop.dataloader
        if loader.num_workers > 0 and threading.current_thread() is threading.main_thread():
            handler = signal.getsignal(signal.SIGCHLD)  # torch's, which raises
            if callable(handler):
                self.handler = handler
                signal.signal(signal.SIGCHLD, self._child_died)

    def __next__(self) -> Any:
        self.waiting = True  # only meanwhile a worker that died raises
        try:
            self._deliver()
            return next(self.batches)
        except StopIteration:
            raise
        # Whatever goes wrong with data: a file, an annotation, a worker.
        except Exception as error:
            self.waiting = False
            gone = self._dead_worker(error)
            saved = self._save()
            self.release()  # not before: more workers may die meanwhile
            if gone is None:
                print_log(f'loading the data of iteration {self.runner.iter + 1} failed: {error}. '
                          f'{saved}', 'current', logging.ERROR)
                raise
            raise RuntimeError(
                f'a process that loads data is gone: {gone}. Where it was killed, memory has most '
                'likely run out: try fewer train_dataloader.num_workers, or more shared memory. '
                f'{saved}') from error
        finally:
            self.waiting = False

    def _dead_worker(self, error: Exception) -> str | None:
        """What torch says about a worker that died, None if none did."""
        if isinstance(error, (ConnectionError, EOFError)) and self.handler is not None:
            # A connection to a worker that dies may break before the signal comes.
            end = time.monotonic() + _PATIENCE
            while time.monotonic() < end:
                try:
                    self.handler(signal.SIGCHLD, None)
                except RuntimeError as found:
                    error = found
                    break
                time.sleep(0.01)
        if isinstance(error, RuntimeError) and str(error).startswith(_GONE):
            return str(error).splitlines()[0].rstrip('. ')
        return None

    def release(self) -> None:
        """Give the signal back to torch."""
        if self.handler is not None:
            signal.signal(signal.SIGCHLD, self.handler)
            self.handler = None

    def _child_died(self, number: int, frame: FrameType | None) -> None:
        self.late = number, frame
        if self.waiting:
            self._deliver()

    def _deliver(self) -> None:
        late, self.late = self.late, None
        if late is not None and self.handler is not None:
            self.handler(*late)

    def _save(self) -> str:
        """Save if a run can go on from here; say what can be done."""
        runner, number = self.runner, self.runner.iter
        path = None
        hook = next((hook for hook in runner.hooks if isinstance(hook, SafeCheckpointHook)), None)
        if hook is not None and number > self.first and get_dist_info()[1] == 1:
            path = hook.save_now(runner, number)
        if path is not None:
            return f'The state after {number} iterations is saved in {path}; --resume goes on'
        path, _ = newest_whole(runner.work_dir)
        if path is None:
            return 'There is no checkpoint to go on from'
        return f'The latest checkpoint is {path}, from where --resume goes on'
