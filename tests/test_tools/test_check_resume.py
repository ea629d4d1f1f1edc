"""dev/check_resume.py, with few kills; the full check has 20 (docs/training.md)."""

import numpy as np
import pytest
import torch

import programs
from programs import ROOT

TOOL = ROOT / 'dev' / 'check_resume.py'


@pytest.mark.slow
@pytest.mark.parametrize('processes', [1, 2])
def test_a_killed_training_ends_as_one_that_is_left_alone(tmp_path, processes):
    done = programs.run(
        TOOL, '--kills', '2', '--steps', '12', '--seed', '16', '--processes', processes,
        '--work-dir', tmp_path / 'check', timeout=1200)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == 'verdict: EQUAL, bit for bit'
    # Whether the first one meets the moment of a write is a matter of milliseconds.
    assert ' while a checkpoint is written, 1 while it trains' in done.stdout


@pytest.fixture(scope='module')
def tool():
    return programs.load(TOOL)


@pytest.mark.parametrize(('one', 'two', 'expected'), [
    ({'a': torch.zeros(2), 'b': [1, (2., 'x')]}, {'a': torch.zeros(2), 'b': [1, (2., 'x')]}, []),
    ({'a': torch.zeros(2)}, {'a': torch.tensor([0., -0.])}, ["['a']"]),
    ({'a': torch.zeros(2)}, {'a': torch.zeros(2).double()}, ["['a']"]),
    ({'a': torch.full((1, ), np.nan)}, {'a': torch.full((1, ), np.nan)}, []),
    ({'a': 1}, {'b': 1}, ['all']), ([1, [2, 3]], [1, [2, 4]], ['[1][1]']), (1, True, ['all'])])
def test_differences_are_those_of_the_bits(tool, one, two, expected):
    assert tool.differences(one, two) == expected
