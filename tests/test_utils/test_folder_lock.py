"""One run in a folder at a time: held, refused, stale, taken over, with real processes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from glus_mm.utils import folder_lock
from glus_mm.utils.folder_lock import FolderInUseError, FolderLock

# Without the imports of the package, which take seconds.
HOLD = '''
import runpy, sys
with runpy.run_path(sys.argv[1])['FolderLock'](sys.argv[2], beat=0.05):
    print('HELD', flush=True)
    sys.stdin.read()
print('LEFT', flush=True)
'''


@pytest.fixture
def holder(tmp_path):
    """A process that holds the folder until its input ends."""
    process = subprocess.Popen([sys.executable, '-c', HOLD, folder_lock.__file__, str(tmp_path)],
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == 'HELD\n'
    yield process
    process.kill()
    process.wait()


def entry(folder):
    return json.loads((folder / '.run.lock').read_text())


def test_a_second_run_is_refused_and_told_by_whom(holder, tmp_path):
    with pytest.raises(FolderInUseError) as error, FolderLock(tmp_path):
        pass
    text = str(error.value)
    assert '\n' not in text and f'process {holder.pid} on ' in text and str(tmp_path) in text
    assert entry(tmp_path)['process'] == holder.pid, 'the holder keeps it'
    out, _ = holder.communicate()
    assert out == 'LEFT\n' and not list(tmp_path.iterdir())
    with FolderLock(tmp_path):
        assert entry(tmp_path)['process'] == os.getpid()
    assert not list(tmp_path.iterdir())


def test_a_killed_holder_leaves_a_stale_one(holder, tmp_path):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert entry(tmp_path)['process'] == holder.pid
    with FolderLock(tmp_path):
        assert entry(tmp_path)['process'] == os.getpid()


def test_another_process_with_the_number_of_the_holder(tmp_path):
    lock = FolderLock(tmp_path)
    (tmp_path / '.run.lock').write_text(json.dumps(dict(lock.entry, started=1.0, token='old')))
    with lock:
        assert entry(tmp_path)['token'] == lock.entry['token']


def elsewhere(folder):
    """The lock of a process of another machine."""
    other = dict(FolderLock(folder).entry, host='node7', place='node7', token='theirs')
    (folder / '.run.lock').write_text(json.dumps(other))
    return folder / '.run.lock'


def test_a_heartbeat_of_another_machine_that_stands_still(tmp_path):
    path = elsewhere(tmp_path)
    start = time.monotonic()
    with FolderLock(tmp_path, beat=0.05, stale=0.4) as lock:
        assert time.monotonic() - start >= 0.4
        assert entry(tmp_path)['token'] == lock.entry['token']
    elsewhere(tmp_path)
    os.utime(path, (1, 1))  # known to be old at once
    start = time.monotonic()
    with FolderLock(tmp_path, stale=60):
        assert time.monotonic() - start < 30


def test_a_heartbeat_of_another_machine_that_goes_on(tmp_path):
    path = elsewhere(tmp_path)
    code = ('import os, sys, time\nfor i in range(600):\n    os.utime(sys.argv[1])\n'
            '    time.sleep(0.05)\n')
    beating = subprocess.Popen([sys.executable, '-c', code, str(path)])
    try:
        with pytest.raises(FolderInUseError, match='on node7 uses'), \
                FolderLock(tmp_path, beat=0.05, stale=25):
            pass
    finally:
        beating.kill()
        beating.wait()


def test_the_heart_beats(tmp_path):
    with FolderLock(tmp_path, beat=0.01) as lock:
        os.utime(lock.path, (1, 1))
        end = time.monotonic() + 30
        while lock.path.stat().st_mtime < 100 and time.monotonic() < end:
            time.sleep(0.01)
        assert lock.path.stat().st_mtime > 100


def test_a_lock_that_is_no_json(tmp_path):
    (tmp_path / '.run.lock').write_text('{"host"')
    os.utime(tmp_path / '.run.lock', (1, 1))
    with FolderLock(tmp_path):
        assert entry(tmp_path)['process'] == os.getpid()


def test_one_of_many_that_start_at_once_gets_it(tmp_path):
    (tmp_path / 'work').mkdir()
    stale = FolderLock(tmp_path / 'work').entry
    (tmp_path / 'work' / '.run.lock').write_text(json.dumps(dict(stale, started=1.0)))
    processes = [subprocess.Popen(
        [sys.executable, '-c', HOLD, folder_lock.__file__, str(tmp_path / 'work')],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(8)]
    said = [process.stdout.readline() for process in processes]
    assert said.count('HELD\n') == 1 and said.count('') == 7
    for process in processes:
        process.kill()
        process.communicate()


def test_two_kinds_of_runs_do_not_disturb_one_another(tmp_path):
    with FolderLock(tmp_path), FolderLock(tmp_path, '.test.lock'):
        assert len(list(Path(tmp_path).iterdir())) == 2
