"""One run in a folder at a time: held, refused, stale, taken over, with real processes."""

import os
import signal
import subprocess
import sys
import time

import pytest

from glus_mm.utils import folder_lock
from glus_mm.utils.folder_lock import FolderInUseError, lock_folder

# Without the imports of the package, which take seconds.
HOLD = '''
import runpy, sys
with runpy.run_path(sys.argv[1])['lock_folder'](sys.argv[2], beat=0.05):
    print('HELD', flush=True)
    sys.stdin.read()
print('LEFT', flush=True)
'''


def start(folder, **kwargs):
    return subprocess.Popen([sys.executable, '-c', HOLD, folder_lock.__file__, str(folder)],
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **kwargs)


@pytest.fixture
def holder(tmp_path):
    """A process that holds the folder until its input ends."""
    process = start(tmp_path)
    assert process.stdout.readline() == 'HELD\n'
    yield process
    process.kill()
    process.wait()


def entry(folder):
    lines = (folder / '.run.lock').read_text().splitlines()
    return dict(line.split('=', 1) for line in lines[1:])


def change(folder, **fields):
    """Write the lock as somebody else would have."""
    path = folder / '.run.lock'
    lines = {**entry(folder), **fields}
    path.write_text('filelock/2\n' + ''.join(f'{key}={value}\n' for key, value in lines.items()))
    return path


@pytest.fixture
def left(holder, tmp_path):
    """The lock of a process that was killed."""
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert entry(tmp_path)['pid'] == str(holder.pid)
    return tmp_path


def test_a_second_run_is_refused_and_told_by_whom(holder, tmp_path):
    start = time.monotonic()
    with pytest.raises(FolderInUseError) as error, lock_folder(tmp_path):
        pass
    assert time.monotonic() - start < 30, 'it has seen the heart beat'
    text = str(error.value)
    assert '\n' not in text and f'process {holder.pid} on ' in text and str(tmp_path) in text
    assert entry(tmp_path)['pid'] == str(holder.pid), 'the holder keeps it'
    out, _ = holder.communicate()
    assert out == 'LEFT\n' and not list(tmp_path.iterdir())
    with lock_folder(tmp_path):
        assert entry(tmp_path)['pid'] == str(os.getpid())
    assert not list(tmp_path.iterdir())


def test_a_killed_holder_leaves_a_stale_one(left):
    start = time.monotonic()
    with lock_folder(left):
        assert entry(left)['pid'] == str(os.getpid()) and time.monotonic() - start < 30


def test_another_process_with_the_number_of_the_holder(left):
    change(left, pid=os.getpid())
    with lock_folder(left):
        assert entry(left)['token'] != 'old'


def test_a_heartbeat_of_another_machine_that_stands_still(left):
    change(left, host='node7', pid=os.getpid(), duration=0.4)
    start = time.monotonic()
    with lock_folder(left, beat=0.05, stale=0.4):
        assert time.monotonic() - start >= 0.4
        assert entry(left)['host'] != 'node7'


def test_a_heartbeat_of_another_machine_that_goes_on(left):
    path = change(left, host='node7', duration=25.0)
    code = ('import os, sys, time\nfor i in range(600):\n    os.utime(sys.argv[1])\n'
            '    time.sleep(0.05)\n')
    beating = subprocess.Popen([sys.executable, '-c', code, str(path)])
    try:
        with pytest.raises(FolderInUseError, match='on node7 uses'), \
                lock_folder(left, beat=0.05, stale=25.0):
            pass
    finally:
        beating.kill()
        beating.wait()


def test_locks_of_nobody(tmp_path):
    (tmp_path / '.run.lock').write_text('{"host"')
    with lock_folder(tmp_path):
        assert entry(tmp_path)['pid'] == str(os.getpid())
    with lock_folder(tmp_path), lock_folder(tmp_path, '.test.lock'):
        assert len(list(tmp_path.iterdir())) == 2


def test_one_of_many_that_start_at_once_gets_it(left):
    processes = [start(left, stderr=subprocess.DEVNULL) for _ in range(8)]
    said = [process.stdout.readline() for process in processes]
    assert said.count('HELD\n') == 1 and said.count('') == 7
    for process in processes:
        process.kill()
        process.communicate()
