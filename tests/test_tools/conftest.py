"""What tests of several processes need."""

from pathlib import Path

import pytest


def find_worker(rank, parent):
    """Process id of a rank that torchrun, a descendant of ``parent``, has started."""
    parents = {}
    for stat in Path('/proc').glob('[0-9]*/stat'):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(')')[2].split()[1])
        except OSError:  # it has ended meanwhile
            continue
    for pid in parents:
        above = pid
        while above in parents and above != parent:
            above = parents[above]
        if above != parent:
            continue
        try:
            variables = Path(f'/proc/{pid}/environ').read_bytes().split(b'\0')
        except OSError:
            continue
        if f'RANK={rank}'.encode() in variables:
            return pid
    return None


@pytest.fixture(scope='session')
def worker_of_rank():
    """``worker_of_rank(rank, parent)``: process id of a rank below a process."""
    return find_worker
