"""Runs that are asked to go: by SIGTERM or SIGUSR1, or as the process that started them is gone."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from types import FrameType

# Exit status of a run that saved and ended because it was asked to: EX_TEMPFAIL, "try again".
STATUS = 75
# What Slurm sends before a time limit (--signal), or when it takes a job off its machine.
SIGNALS = (signal.SIGTERM, signal.SIGUSR1) if hasattr(signal, 'SIGUSR1') else (signal.SIGTERM, )
# Variable with the path of a file that a process makes when it ends for that reason.
NOTE = 'GLUS_MM_PREEMPTED'
# Variable with the process id of tools/launch.py, which may be gone before a process looks for its
# parent.
LAUNCHER = 'GLUS_MM_LAUNCHER'
_WATCH = 1.0  # seconds between two looks at the parent
# How long a run whose launcher is gone may take to save, as the other processes may be gone too.
_GRACE = 120.0

_current: 'Preemption | None' = None


class Preempted(SystemExit):
    """Ends the process with :data:`STATUS` after the state was saved."""

    def __init__(self) -> None:
        super().__init__(STATUS)


class Preemption:
    """Notices that a training should end, as a context manager around it.

    Signals do not interrupt what runs: they are noted, and
    :class:`glus_mm.engine.hooks.PreemptionHook` saves at the next step. They are blocked in
    processes that are forked meanwhile, the workers that load data: Slurm sends a signal to all
    processes of a job, and without its workers a training could not reach its next step. A second
    signal changes nothing.

    Args:
        parent: whether to end when the parent is gone too, as a launcher is that was killed.
    """

    def __init__(self, parent: bool = False) -> None:
        self.reason: str | None = None
        self._parent = int(os.environ.get(LAUNCHER, os.getppid())) if parent else None
        self._before: dict[int, Callable | int | None] = {}
        self._stop = threading.Event()

    def __enter__(self) -> 'Preemption':
        global _current
        for number in SIGNALS:
            self._before[number] = signal.signal(number, self._note)
        _current = self
        if self._parent is not None:
            threading.Thread(target=self._watch, name='parent', daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        global _current
        _current = None
        self._stop.set()
        # What was forked is killed: Python would ask it with SIGTERM at its exit, and wait forever.
        workers = multiprocessing.active_children()
        if workers and hasattr(signal, 'SIGCHLD'):
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch's raises when a worker is killed
        for worker in workers:
            worker.kill()
            worker.join()
        for number, handler in self._before.items():
            signal.signal(number, handler or signal.SIG_DFL)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.reason = self.reason or signal.Signals(number).name

    def _watch(self) -> None:
        while not self._stop.wait(_WATCH):
            if os.getppid() != self._parent:
                self.reason = self.reason or 'the process that started it is gone'
                if not self._stop.wait(_GRACE):
                    os._exit(STATUS)  # it waits for others that are gone
                return


def note_preempted() -> None:
    """Tell ``tools/launch.py``, which does not learn it from torchrun."""
    note = os.environ.get(NOTE)
    if note:
        with open(note, 'a', encoding='utf-8'):
            pass


def current() -> Preemption | None:
    """The one that is entered now, if any."""
    return _current


def _in_child() -> None:
    if _current is not None:
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)


if hasattr(os, 'register_at_fork'):
    os.register_at_fork(after_in_child=_in_child)
