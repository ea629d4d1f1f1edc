"""tools/train.py on a small model: one process, resume, and two processes on a CPU."""

import subprocess

import pytest
import torch

import programs
from programs import ROOT


def load(path):
    return torch.load(path, weights_only=True)


@pytest.mark.slow
def test_one_process_then_two_that_resume(toy_config, tmp_path):
    """The second run is what a user calls: bash, torchrun and Python from their beginning."""
    toy_config(iters=4)
    done = programs.run(
        ROOT / 'tools' / 'train.py', 'toy.py', '--work-dir', 'run', '--cfg-options',
        'train_cfg.max_iters=2', 'visualizer.vis_backends.0.type=TensorboardVisBackend',
        cwd=tmp_path)
    log = done.stdout + done.stderr
    assert done.returncode == 0, log[-4000:]
    assert 'Iter(train) [2/2]' in log and 'eta:' in log and 'loss:' in log
    assert 'Failed to search registry' not in log, 'a kind of registry without our scope'
    assert load(tmp_path / 'run' / 'iter_2.pth')['meta']['iter'] == 2
    assert list((tmp_path / 'run').rglob('events.out.tfevents*')), 'no TensorBoard file'

    done = subprocess.run(
        ['bash', str(ROOT / 'tools' / 'dist_train.sh'), 'toy.py', '2', '--work-dir', 'run',
         '--resume'], cwd=tmp_path, capture_output=True, text=True, timeout=600,
        env=programs.environment(tmp_path, PORT=str(programs.free_port())))
    log = done.stdout + done.stderr
    assert done.returncode == 0, log[-4000:]
    assert 'resumed epoch: 0, iter: 2' in log
    assert 'Iter(train) [3/4]' in log and 'Iter(train) [4/4]' in log
    if not torch.cuda.is_available():
        assert 'backend gloo instead of nccl' in log
    assert load(tmp_path / 'run' / 'iter_4.pth')['meta']['iter'] == 4
