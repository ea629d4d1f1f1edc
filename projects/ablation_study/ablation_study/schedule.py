"""Which runs are left, and several of them at a time."""

import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass


@dataclass(frozen=True)
class Task:
    """One row with one seed.

    Attributes:
        row: its name.
        seed: its seed.
        needs: tasks that have to be done before, as (row, seed).
        lock: tasks with the same lock are never run at the same time; empty for none.
    """

    row: str
    seed: int
    needs: tuple[tuple[str, int], ...] = ()
    lock: str = ''

    @property
    def key(self) -> tuple[str, int]:
        """Row and seed."""
        return self.row, self.seed


def run_tasks(tasks: Sequence[Task], work: Callable[[Task], None], jobs: int = 1,
              done: Collection[tuple[str, int]] = (),
              report: Callable[[str], None] = lambda text: None) -> dict[tuple[str, int], str]:
    """Run tasks in their order, as far as what they need is there.

    A task that fails does not stop the others, but those that need it.

    Args:
        tasks: what is to be run.
        work: does one; an exception is a failure.
        jobs: how many at a time.
        done: tasks that are finished already.
        report: is told what begins and ends.

    Returns:
        Why tasks failed, or could not be run; empty if all went well.
    """
    finished, failed = set(done), {}
    waiting = [task for task in tasks if task.key not in finished]
    running: dict[Future, tuple[Task, float]] = {}
    with ThreadPoolExecutor(max_workers=jobs) as pool:
        while waiting or running:
            locks = {task.lock for task, _ in running.values() if task.lock}
            ready = [task for task in waiting
                     if finished.issuperset(task.needs) and task.lock not in locks]
            if ready and len(running) < jobs:
                waiting.remove(ready[0])
                report(f'begin {ready[0].row}, seed {ready[0].seed}')
                running[pool.submit(work, ready[0])] = ready[0], time.monotonic()
                continue
            if not running:
                failed.update({task.key: f'not run, because it needs {task.needs}'
                               for task in waiting})
                break
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                task, started = running.pop(future)
                error = future.exception()
                if error is None:
                    finished.add(task.key)
                else:
                    failed[task.key] = str(error)
                report(f'{"end" if error is None else "FAILED"} {task.row}, seed {task.seed} '
                       f'after {time.monotonic() - started:.0f} s, {len(waiting)} waiting'
                       + ('' if error is None else f': {error}'))
    return failed
