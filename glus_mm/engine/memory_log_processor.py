"""Training logs that state the memory in use, on machines without CUDA too."""

import resource
import sys
from pathlib import Path

from mmengine.runner import LogProcessor, Runner

from glus_mm.registry import LOG_PROCESSORS


@LOG_PROCESSORS.register_module()
class MemoryLogProcessor(LogProcessor):
    """MMEngine's ``LogProcessor``, which logs ``memory`` only where there is CUDA.

    There it is the peak of what tensors occupy on the device. Elsewhere it is here the peak of
    the main process's resident memory; processes that load data are not in it. Both in MiB, of
    the main process's rank.

    The arguments are those of MMEngine's class.
    """

    def get_log_after_iter(self, runner: Runner, batch_idx: int, mode: str) -> tuple[dict, str]:
        """Format the log of an iteration.

        Returns:
            The values for the log file, and the line to print.
        """
        tag, text = super().get_log_after_iter(runner, batch_idx, mode)
        if mode == 'train' and 'memory' not in tag:
            tag['memory'] = host_memory()
            text = f'{text}  memory: {tag["memory"]}'
        return tag, text


def host_memory() -> int:
    """Peak of this process's resident memory in MiB."""
    status = Path('/proc/self/status')
    if status.exists():  # getrusage counts what the process was before exec
        for line in status.read_text(encoding='ascii', errors='replace').splitlines():
            if line.startswith('VmHWM:'):
                return int(line.split()[1]) // 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak // 1024 ** (2 if sys.platform == 'darwin' else 1)
