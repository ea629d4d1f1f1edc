"""benchmark_inference.py at its tiny size: what it measures, compares and refuses."""

import json
import sys

import numpy as np
import pytest
import torch

import programs
from programs import ROOT

TOOL = ROOT / 'tools' / 'analysis_tools' / 'benchmark_inference.py'
sys.path.insert(0, str(TOOL.parent))

from inference_benchmark import PARTS, Agreement  # noqa: E402
from inference_benchmark.runs import Outcome  # noqa: E402


@pytest.fixture
def run(tmp_path):
    """Run the tool at its tiny size: its figures, and what it prints."""

    def call(*args):
        path = tmp_path / 'new' / 'figures.json'
        done = programs.run(TOOL, '--size', 'tiny', *args, '--json', path)
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads(path.read_text()), done.stdout

    return call


@pytest.mark.slow
def test_tiny_in_float64(run):
    figures, text = run('--dtype', 'float64', '--frames', '6', '--expressions', '2', '--shape',
                        '60', '80')
    official, ours = figures['official'], figures['ours']
    for entry in (official, ours):
        assert entry['masks'] == 12 and entry['seg_share'] == 1.0
        assert 0.05 < entry['foreground'] < 0.95
        assert set(entry['parts_s']) == set(PARTS) and min(entry['parts_s'].values()) > 0
    assert ours['images_per_frame'] == {'vision tower': 1.0, 'SAM-2 encoder': 1.0}
    assert official['images_per_frame'] == {
        'vision tower': 2 * sum(4 + min(t + 1, 4) for t in range(6)) / 6, 'SAM-2 encoder': 2.0}
    agreement = figures['agreement']
    assert agreement['masks'] == 12 and agreement['different'] == 0
    assert agreement['max_seg'] < 1e-10 and agreement['max_low_res'] > 0
    assert figures['ratio'] > 0 and 'expression-frames per second' in text


@pytest.mark.slow
def test_table(run):
    """A row for each size; every encoder sees each frame once, whatever the number of texts."""
    figures, text = run('--table', '--frames', '1', '--shape', '48', '64')
    rows = figures['table']
    assert [(row['expressions'], row['frames'], row['masks']) for row in rows] == [
        (e, 12, 12 * e) for e in (1, 2, 4, 8, 16)] + [(1, 60, 60)]
    for row in rows:
        assert row['images_per_frame'] == {'vision tower': 1.0, 'SAM-2 encoder': 1.0}
        assert row['seg_share'] == 1.0 and row['cpu_s'] > 0
    table = [line for line in text.splitlines() if ' - INFO - ' not in line]
    assert len(table) == 1 + len(rows)


@pytest.mark.slow
def test_alone(run):
    pytest.importorskip('bitsandbytes', reason='needs the extra "quant"')
    figures, text = run('--alone', '--frames', '7', '--expressions', '2', '--shape', '48', '64',
                        '--set', 'llm_bits=4')
    ours = figures['ours']
    assert ours['masks'] == 14 and ours['seg_share'] == 1.0 and ours['plain_per_second'] > 0
    assert "options {'llm_bits': 4}" in text


@pytest.mark.slow
def test_several_videos_and_live(run):
    figures, _ = run('--videos', '3', '--expressions', '1', '--frames', '3', '--shape', '48', '64',
                     '--dtype', 'float64')
    assert figures['pixels'] == 0 and figures['ratio'] > 0
    assert [run['masks'] for run in figures['videos'].values()] == [9, 9]
    figures, _ = run('--live', '--expressions', '2', '--frames', '6', '--shape', '48', '64',
                     '--set', 'window_cache="turns"')
    for figure in figures['live'].values():
        assert 0 < figure['p50_ms'] <= figure['p95_ms'] and figure['first_ms'] > 0


@pytest.mark.parametrize(('args', 'message'), [
    (['--expressions', '0'], 'expected --expressions of at least 1, got 0'),
    (['--official-expressions', '9'], 'expected --official-expressions in 1..8, got 9'),
    (['--set', 'window_stride'], 'expected --set KEY=VALUE'),
    pytest.param(['--device', 'cuda'], 'expected a device that is here', marks=pytest.mark.skipif(
        torch.cuda.is_available(), reason='there is a CUDA device'))])
def test_wrong_arguments(refusal, args, message):
    assert message in refusal(TOOL, *args)


def outcome(mask, low_res=5.0, seg=0.0, is_seg=True, margin=1.0, stability=1.0):
    return Outcome(np.full(3, seg), is_seg, margin, stability,
                   np.full((2, 2), low_res, dtype=np.float32), np.array(mask, dtype=bool))


def test_agreement():
    runs = {(0, 0): outcome([[1, 0]]), (1, 0): outcome([[0, 0]])}
    agreement = Agreement.of(runs, dict(runs))
    assert agreement.masks == 2 and agreement.pixels == 4 and agreement.close == []
    assert agreement.holds() and agreement.holds(exactly=True)
    assert not Agreement.of(runs, {}).holds(), 'nothing compared is no agreement'
    wide = np.zeros((1, 20000), dtype=bool)
    other = wide.copy()
    other[0, 0] = True
    for level, holds in ((5e-4, True), (2e-3, False)):
        agreement = Agreement.of({(0, 0): outcome(wide, -level)}, {(0, 0): outcome(other, level)})
        assert agreement.different == 1
        assert agreement.max_logit == pytest.approx(level)
        assert agreement.holds() == holds and not agreement.holds(exactly=True)
    ours = {(0, t): outcome([[1]]) for t in range(3)}
    other = {(0, 0): outcome([[1]], margin=5e-5), (0, 1): outcome([[1]], stability=0.98005),
             (0, 2): outcome([[1]], stability=None)}
    assert Agreement.of(ours, other).close == [(0, 0), (0, 1)]
    assert '(0, 0), (0, 1)' in Agreement.of(ours, other).lines()[2]


@pytest.mark.parametrize('change', [
    dict(mask=[[1, 1]]), dict(mask=[[1, 0]], seg=2e-4), dict(mask=[[1, 0]], is_seg=False)])
def test_differences_are_found(change):
    agreement = Agreement.of({(0, 0): outcome([[1, 0]])}, {(0, 0): outcome(**change)})
    assert not agreement.holds()
