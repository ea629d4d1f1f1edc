"""tools/analysis_tools/calibration.py: figures worked out by hand, its files and its errors."""

import json

import numpy as np
import pytest

import programs
from programs import ROOT

TOOL = ROOT / 'tools' / 'analysis_tools' / 'calibration.py'


@pytest.fixture(scope='module')
def tool():
    return programs.load(TOOL)


def track(presence, target=True, painted=None, seg=None, iou=None, expected=None):
    presence = np.array(presence)
    number = len(presence)
    seg = presence > 0.5 if seg is None else np.array(seg)
    return dict(
        presence=presence, seg=seg.astype(float), visible=np.full(number, float(target)),
        painted=(seg if painted is None else np.array(painted)).astype(float),
        J=np.zeros(number) if iou is None else np.array(iou),
        expected_iou=np.zeros(number) if expected is None else np.array(expected),
        has_target=target)


def test_figures(tool):
    scores = np.array([0.01, 0.05, 0.5, 0.52, 1.0])
    error, bins = tool.reliability(scores, np.array([0, 1, 1, 0, 1]))
    # 15 bins: the first holds two, [7/15, 8/15) two, the last one.
    assert error == pytest.approx(
        (2 * abs(0.03 - 0.5) + 2 * abs(0.51 - 0.5) + abs(1 - 1)) / 5)
    assert bins[:, 0].tolist() == [2, *[0] * 6, 2, *[0] * 6, 1]
    assert bins[7].tolist() == [2, pytest.approx(0.51), 0.5]
    targets = [track([0.1, 0.05 * n]) for n in range(3, 13)]  # 0.15, 0.2, ..., 0.6
    nothing = [track([0.3, 0.1], target=False), track([0.05, 0.18], target=False),
               track([0.02, 0.02], target=False), track([0.58, 0.0], target=False)]
    figures = tool.choose_threshold(targets + nothing, 0.9)
    assert figures['threshold'] == pytest.approx(0.2, abs=1e-6)
    assert figures['T-acc'] == 90 and figures['N-acc'] == 50
    lower = tool.choose_threshold(targets + nothing, 1.0)
    assert lower['threshold'] == pytest.approx(0.15, abs=2e-6)
    assert 'N-acc' not in tool.choose_threshold(targets, 0.9)
    assert tool.choose_threshold(nothing, 0.9) == {}
    rows = [track([0.9, 0.4], painted=[0, 0]), track([0.7, 0.6], painted=[1, 1])]
    assert tool.choose_threshold(rows, 1.0)['threshold'] == pytest.approx(0.4, abs=1e-6)
    rows[0] = track([0.9, 0.8], painted=[0, 0])
    assert tool.choose_threshold(rows, 1.0) == {}


def test_command(call_tool, tmp_path):
    rows = dict(a_0=track([0.9, 0.8], iou=[0.5, 0.7], expected=[0.4, 0.9]),
                a_1=track([0.7, 0.1], iou=[0.9, 0.0], expected=[0.95, 0]),
                b_0=track([0.2, 0.6], target=False, painted=[0, 0]))
    has_target = {key: dict(has_target=row.pop('has_target')) for key, row in rows.items()}
    dump = tmp_path / 'dump.json'
    dump.write_text(json.dumps(dict(per_expression=has_target, per_frame={
        key: {name: values.tolist() for name, values in row.items()}
        for key, row in rows.items()})))
    status, out, error = call_tool(TOOL, dump, '--out-dir', tmp_path / 'out')
    assert status == 0, error
    assert 'ECE 0.3833' in out and 'over 6 frames, of which 66.7 %' in out
    assert 'Spearman 1.000, mean difference 0.117 over 3 frames' in out
    assert 'T-acc 100.00, N-acc 100.00' in out
    figures = json.loads((tmp_path / 'out' / 'calibration.json').read_text())
    assert figures['threshold'] == pytest.approx(0.7, abs=2e-6)
    assert figures['frames'] == 6 and figures['iou_frames'] == 3
    assert (tmp_path / 'out' / 'reliability.png').stat().st_size > 5000
    dump.write_text(json.dumps(dict(per_expression={}, per_frame={'a_0': dict(J=[0.5])})))
    status, _, error = call_tool(TOOL, dump)
    assert status == 2 and error.splitlines()[-1].endswith(
        f"{dump}, per_frame, 'a_0': expected what tools/test.py --dump writes of the expressions "
        "of a GLUS model, got none of ['presence', 'expected_iou', 'seg', 'visible', 'painted']")
