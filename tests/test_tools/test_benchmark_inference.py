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


def run(*args):
    return programs.run(TOOL, *args)


@pytest.mark.slow
def test_tiny_in_float64(tmp_path):
    out = run('--size', 'tiny', '--dtype', 'float64', '--frames', '6', '--expressions', '2',
              '--shape', '60', '80', '--json', str(tmp_path / 'new' / 'figures.json'))
    assert out.returncode == 0, out.stderr[-3000:]
    figures = json.loads((tmp_path / 'new' / 'figures.json').read_text())
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
    assert figures['ratio'] > 0 and 'expression-frames per second' in out.stdout


@pytest.mark.slow
def test_table(tmp_path):
    """A row for each size; every encoder sees each frame once, whatever the number of texts."""
    out = run('--size', 'tiny', '--table', '--frames', '1', '--shape', '48', '64', '--json',
              str(tmp_path / 'table.json'))
    assert out.returncode == 0, out.stderr[-3000:]
    rows = json.loads((tmp_path / 'table.json').read_text())['table']
    assert [(row['expressions'], row['frames'], row['masks']) for row in rows] == [
        (e, 12, 12 * e) for e in (1, 2, 4, 8, 16)] + [(1, 60, 60)]
    for row in rows:
        assert row['images_per_frame'] == {'vision tower': 1.0, 'SAM-2 encoder': 1.0}
        assert row['seg_share'] == 1.0 and row['cpu_s'] > 0
    table = [line for line in out.stdout.splitlines() if ' - INFO - ' not in line]
    assert len(table) == 1 + len(rows)


@pytest.mark.slow
def test_alone(tmp_path):
    pytest.importorskip('bitsandbytes', reason='needs the extra "quant"')
    out = run('--size', 'tiny', '--alone', '--frames', '7', '--expressions', '2', '--shape', '48',
              '64', '--set', 'llm_bits=4', '--json', str(tmp_path / 'alone.json'))
    assert out.returncode == 0, out.stderr[-3000:]
    ours = json.loads((tmp_path / 'alone.json').read_text())['ours']
    assert ours['masks'] == 14 and ours['seg_share'] == 1.0 and ours['plain_per_second'] > 0
    assert "options {'llm_bits': 4}" in out.stdout


@pytest.mark.slow
def test_several_videos(tmp_path):
    out = run('--size', 'tiny', '--videos', '3', '--expressions', '1', '--frames', '3', '--shape',
              '48', '64', '--dtype', 'float64', '--json', str(tmp_path / 'videos.json'))
    assert out.returncode == 0, out.stderr[-3000:]
    figures = json.loads((tmp_path / 'videos.json').read_text())
    assert figures['pixels'] == 0 and figures['ratio'] > 0
    assert [run['masks'] for run in figures['videos'].values()] == [9, 9]


@pytest.mark.slow
def test_live(tmp_path):
    out = run('--size', 'tiny', '--live', '--expressions', '2', '--frames', '6', '--shape', '48',
              '64', '--set', 'window_cache="turns"', '--json', str(tmp_path / 'live.json'))
    assert out.returncode == 0, out.stderr[-3000:]
    for figure in json.loads((tmp_path / 'live.json').read_text())['live'].values():
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
