"""Runs that are asked to go, or whose launcher is killed: real processes, real signals."""

import importlib.util
import os
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

import programs
from glus_mm.engine.preemption import LAUNCHER, Preemption
from glus_mm.utils.folder_lock import FolderInUseError, lock_folder
from programs import ROOT

# Says on which iteration it is, and lets the test act there before it goes on.
PARTS = '''
import os
import sys
import time
from pathlib import Path

from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from glus_mm.engine import preemption

if 'zero.py' in sys.argv:
    import deepspeed

    # A faster all-reduce within one machine, which would be compiled here for a minute.
    deepspeed.ops.__compatible_ops__['deepspeed_shm_comm'] = False


@HOOKS.register_module()
class WaitHook(Hook):

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        here = Path(os.environ['PLACE'])
        (here / f'{get_rank()}_{os.getpid()}_{runner.iter}').touch()
        if runner.iter >= int(os.environ['WAIT_FROM']):
            end = time.monotonic() + 240
            while not (here / f'go_{runner.iter}').exists() and not (here / 'go').exists():
                assert time.monotonic() < end
                if preemption.current().reason:
                    (here / f'asked_{get_rank()}').touch()
                time.sleep(0.02)
'''
CONFIG = '''
_base_ = ['./toy.py']
custom_imports = dict(imports=['toy_parts', 'wait_hook'])
custom_hooks = [dict(type='WaitHook')]
default_hooks = dict(checkpoint=dict(interval=100))
train_dataloader = dict(num_workers={workers})
'''
ZERO = '''
runner_type = 'FlexibleRunner'
strategy = dict(type='glus_mm.SafeDeepSpeedStrategy', zero_optimization=dict(stage=2))
optim_wrapper = dict(
    type='ZeroOptimWrapper', accumulative_counts=2, optimizer=dict(type='AdamW', lr=0.1))
'''
pytestmark = pytest.mark.slow


class Training:
    """A training that waits in iteration 2 (the third) until it is told to go on."""

    def __init__(self, folder, name, *command, wait_from=2, processes=1):
        self.place = folder / f'{name}_place'
        self.place.mkdir(exist_ok=True)
        for file in self.place.iterdir():
            file.unlink()
        self.process = programs.start(
            ROOT / 'tools' / 'train.py', *command, '--work-dir', name, cwd=folder,
            env=dict(PLACE=str(self.place), WAIT_FROM=str(wait_from)), processes=processes,
            stderr=subprocess.STDOUT, start_new_session=True)

    def reach(self, iteration, processes=1):
        """Wait until all processes are in an iteration; gives rank to process id."""
        end = time.monotonic() + 400
        while True:
            found = dict(file.name.split('_')[:2] for file in self.place.glob(f'*_*_{iteration}'))
            if len(found) == processes:
                return {int(rank): int(pid) for rank, pid in found.items()}
            assert self.process.poll() is None, self.process.stdout.read()[-4000:]
            assert time.monotonic() < end
            time.sleep(0.05)

    def is_asked(self, processes):
        """Wait until all processes, which wait to be told to go on, know that they shall end."""
        end = time.monotonic() + 120
        while len(list(self.place.glob('asked_*'))) < processes:
            assert time.monotonic() < end
            time.sleep(0.05)

    def go(self, iteration=None):
        (self.place / ('go' if iteration is None else f'go_{iteration}')).touch()

    def end(self):
        """Exit status and log."""
        out, _ = self.process.communicate(timeout=400)
        return self.process.returncode, out


@pytest.fixture
def start(tmp_path, toy_config):
    toy_config(iters=8)
    (tmp_path / 'wait_hook.py').write_text(PARTS)
    (tmp_path / 'config.py').write_text(CONFIG.format(workers=1))
    (tmp_path / 'zero.py').write_text(CONFIG.format(workers=0) + ZERO)
    started = []

    def call(name, *args, config='config.py', **kwargs):
        started.append(Training(tmp_path, name, config, *args, **kwargs))
        return started[-1]

    yield call
    for training in started:
        if training.process.poll() is None:
            os.killpg(training.process.pid, signal.SIGKILL)
            training.process.communicate()


def alive(pid):
    try:
        state = Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0]
    except OSError:
        return False
    return state != 'Z'


def wait_until_gone(pids, seconds=120):
    end = time.monotonic() + seconds
    while any(map(alive, pids)):
        assert time.monotonic() < end, f'{[p for p in pids if alive(p)]} go on'
        time.sleep(0.1)


def weights(path):
    return torch.load(path, weights_only=True)['state_dict']


def test_signal_to_all_processes_of_one_training(start, tmp_path):
    """As Slurm sends it: to the workers that load data too. It goes on bit for bit."""
    whole = start('whole')
    whole.go()
    status, log = whole.end()
    assert status == 0, log
    run = start('run')
    run.reach(2)
    os.killpg(run.process.pid, signal.SIGTERM)
    run.go()
    status, log = run.end()
    assert status == 75, log
    assert 'ended after iteration 3 (SIGTERM); --resume goes on from' in log
    assert (tmp_path / 'run' / 'iter_3.pth').is_file()
    assert not (tmp_path / 'run' / '.run.lock').exists()
    last = start('run', '--resume')
    last.go()
    status, log = last.end()
    assert status == 0 and 'resumes from' in log, log
    states = [weights(tmp_path / name / 'iter_8.pth') for name in ('whole', 'run')]
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())


@pytest.mark.parametrize('config', ['config.py', pytest.param('zero.py', marks=pytest.mark.skipif(
    importlib.util.find_spec('deepspeed') is None, reason='needs DeepSpeed'))])
def test_signal_to_one_of_two_processes(start, tmp_path, config):
    """Both end after the same iteration; with accumulation after the step of the optimizer."""
    run = start('run', config=config, processes=2)
    pids = run.reach(2, processes=2)
    os.kill(pids[1], signal.SIGUSR1)
    run.go()
    status, log = run.end()
    assert status == 75, log
    assert '--resume goes on from' in log
    saved = sorted((tmp_path / 'run').glob('iter_*.pth'))
    expected = 'iter_3.pth' if config == 'config.py' else 'iter_4.pth'
    assert [path.name for path in saved] == [expected], log
    wait_until_gone(pids.values())


def test_signal_to_the_launcher(start, tmp_path):
    run = start('run', processes=2)
    pids = run.reach(2, processes=2)
    run.process.send_signal(signal.SIGUSR1)
    run.is_asked(processes=2)
    run.go()
    status, log = run.end()
    assert status == 75 and list((tmp_path / 'run').glob('iter_*.pth')), log
    wait_until_gone(pids.values())


@pytest.mark.parametrize('config', ['config.py', pytest.param('zero.py', marks=pytest.mark.skipif(
    importlib.util.find_spec('deepspeed') is None, reason='needs DeepSpeed'))])
def test_kill_9_of_the_launcher(start, tmp_path, config):
    """The folder stays locked as long as its workers train; they notice, save and end."""
    run = start('run', config=config, processes=2)
    pids = run.reach(2, processes=2)
    run.process.kill()
    run.process.wait()
    assert all(map(alive, pids.values()))
    assert f'pid={pids[0]}\n' in (tmp_path / 'run' / '.run.lock').read_text()
    with pytest.raises(FolderInUseError, match=f'process {pids[0]} on '), \
            lock_folder(tmp_path / 'run'):
        pass
    run.go()
    # They look for their parent once in a second, and end after two minutes at the latest.
    wait_until_gone(pids.values(), 240)
    assert list((tmp_path / 'run').glob('iter_*.pth')), 'they saved'
    assert not (tmp_path / 'run' / '.run.lock').exists()


def test_a_launcher_that_was_gone_before(monkeypatch):
    """A process that it has started has another parent already when it looks for it."""
    gone = subprocess.Popen([sys.executable, '-c', ''])
    gone.wait()
    monkeypatch.setenv(LAUNCHER, str(gone.pid))
    end = time.monotonic() + 60
    with Preemption(parent=True) as preemption:
        while preemption.reason is None:
            assert time.monotonic() < end
            time.sleep(0.05)
    assert preemption.reason == 'the process that started it is gone'


@pytest.mark.parametrize('statuses, first', [
    ({0: 1, 1: -signal.SIGKILL}, 1), ({0: -signal.SIGABRT, 1: -signal.SIGSEGV}, 1),
    ({0: -signal.SIGABRT, 1: 1}, 0), ({0: 1, 1: 2}, 0)])
def test_the_failure_that_is_told(statuses, first):
    """Where torchrun finds several at once, in one second."""
    failures = {rank: ProcessFailure(rank, 1000 + rank, status, error_file='')
                for rank, status in statuses.items()}
    for failure in failures.values():
        failure.timestamp = 0
    first_failure = runpy.run_path(str(ROOT / 'tools' / 'launch.py'))['first_failure']
    assert first_failure(failures) == (first, failures[first])


def test_kill_9_of_one_process_under_deepspeed(start, tmp_path):
    pytest.importorskip('deepspeed')
    run = start('run', config='zero.py', processes=2)
    pids = run.reach(2, processes=2)
    os.kill(pids[1], signal.SIGKILL)
    run.go()
    status, log = run.end()
    assert status == 1 and 'process 1 failed first, with status -9' in log, log
    wait_until_gone(pids.values())
    # The killed run's lock is stale, and the folder free.
    again = start('run', '--resume', config='zero.py', processes=2)
    again.go()
    status, log = again.end()
    assert status == 0 and (tmp_path / 'run' / 'iter_8.pth').is_file(), log
