"""benchmark_train.py at its tiny size: what it measures and writes, and wrong arguments."""

import json
import sys

import pytest
import torch

import programs
from programs import ROOT

TOOL = ROOT / 'tools' / 'analysis_tools' / 'benchmark_train.py'
sys.path.insert(0, str(TOOL.parent))

from train_benchmark import PHASES  # noqa: E402


def run(*args):
    return programs.run(TOOL, *args)


@pytest.mark.slow
def test_tiny(tmp_path):
    out = run('--size', 'tiny', '--videos', '1', '--steps', '1', '--warmup', '0', '--memory',
              'through', 'checkpoint', '--json', str(tmp_path / 'new' / 'figures.json'))
    assert out.returncode == 0, out.stderr[-3000:]
    figures = json.loads((tmp_path / 'new' / 'figures.json').read_text())['variants']
    assert list(figures) == ['official, through', 'ours, through', 'ours, checkpoint']
    for name, entry in figures.items():
        assert name in out.stdout and len(entry['step_s']) == 1
        assert set(entry['phases']) == set(PHASES) and min(entry['phases'].values()) > 0
        assert entry['loss_difference'] < 1e-5 and entry['grad_norm_difference'] < 1e-4
        assert entry['peak_gb'] > entry['before_step_gb'] > 0
    assert figures['ours, through']['tflop'] < figures['official, through']['tflop']


@pytest.mark.parametrize(('args', 'message'), [
    (['--expressions', '0'], 'expected --expressions of at least 1, got 0'),
    pytest.param(['--device', 'cuda'], 'expected a device that is here', marks=pytest.mark.skipif(
        torch.cuda.is_available(), reason='there is a CUDA device'))])
def test_wrong_arguments(refusal, args, message):
    assert message in refusal(TOOL, *args)
