"""tools/train.py on a small model: one process, resume, and two processes on a CPU."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]

@pytest.fixture
def run(tmp_path, toy_config):
    toy_config(iters=4)
    env = dict(os.environ, OMP_NUM_THREADS='1', PORT=str(20000 + os.getpid() % 20000),
               PYTHONPATH=os.pathsep.join([str(tmp_path), str(ROOT)]),
               PATH=os.pathsep.join([str(Path(sys.executable).parent), os.environ['PATH']]))

    def call(*args):
        done = subprocess.run(args, cwd=tmp_path, env=env, capture_output=True, text=True,
                              timeout=600)
        assert done.returncode == 0, done.stderr[-4000:]
        return done.stdout + done.stderr

    return call


def load(path):
    return torch.load(path, weights_only=True)


@pytest.mark.slow
def test_one_process_then_two_that_resume(run, tmp_path):
    log = run(sys.executable, str(ROOT / 'tools' / 'train.py'), 'toy.py', '--work-dir', 'run',
              '--cfg-options', 'train_cfg.max_iters=2',
              'visualizer.vis_backends.0.type=TensorboardVisBackend')
    assert 'Iter(train) [2/2]' in log and 'eta:' in log and 'loss:' in log
    assert 'Failed to search registry' not in log, 'a kind of registry without our scope'
    assert load(tmp_path / 'run' / 'iter_2.pth')['meta']['iter'] == 2
    assert list((tmp_path / 'run').rglob('events.out.tfevents*')), 'no TensorBoard file'

    log = run('bash', str(ROOT / 'tools' / 'dist_train.sh'), 'toy.py', '2', '--work-dir', 'run',
              '--resume')
    assert 'resumed epoch: 0, iter: 2' in log
    assert 'Iter(train) [3/4]' in log and 'Iter(train) [4/4]' in log
    if not torch.cuda.is_available():
        assert 'backend gloo instead of nccl' in log
    assert load(tmp_path / 'run' / 'iter_4.pth')['meta']['iter'] == 4
