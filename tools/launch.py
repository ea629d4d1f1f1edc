"""torchrun, with the exit status of the training: what tools/dist_train.sh and dist_test.sh call.

Takes the arguments of torchrun. The status is 75 if the processes saved and ended because they were
asked to (SIGTERM or SIGUSR1 to this process or to one of them), as with tools/train.py alone; else
1 after a failure, which is told in one line for the process that failed first.
"""

import os
import signal
import sys
import tempfile
from pathlib import Path

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from torch.distributed.run import main as torchrun

from glus_mm.engine.preemption import LAUNCHER, NOTE, STATUS

# Seconds that processes have to save after a signal before torchrun (2.10 and newer) kills them.
SHUTDOWN_TIMEOUT = 600


def first_failure(failures: dict[int, ProcessFailure]) -> tuple[int, ProcessFailure]:
    """The rank whose end brought down the others, and how it ended.

    torchrun looks at all processes at once and its times are whole seconds. One that lost its peer
    ends with an error, or by the SIGABRT of NCCL's watchdog; any other signal came from outside.
    """
    return min(failures.items(), key=lambda item: (
        item[1].exitcode >= 0 or item[1].exitcode == -signal.SIGABRT, item[1].timestamp))


def main() -> int:
    """Run torchrun; returns the exit status."""
    os.environ.setdefault('TORCH_ELASTIC_SHUTDOWN_TIMEOUT', str(SHUTDOWN_TIMEOUT))
    os.environ[LAUNCHER] = str(os.getpid())
    # torchrun hands on SIGTERM only.
    signal.signal(signal.SIGUSR1, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    with tempfile.TemporaryDirectory() as folder:
        note = Path(folder) / 'preempted'
        os.environ[NOTE] = str(note)
        try:
            torchrun(sys.argv[1:])
        except ChildFailedError as error:
            if note.exists():
                return STATUS
            rank, failure = first_failure(error.failures)
            print(f'process {rank} failed first, with status {failure.exitcode}; its own message '
                  'is above', file=sys.stderr)
            return 1
        except SignalException as error:
            return STATUS if note.exists() else 128 + error.sigval
    return 0


if __name__ == '__main__':
    sys.exit(main())
