"""tools/analysis_tools/analyze_logs.py: its table and picture, and what it refuses."""

import json
import math
import re

import pytest
from PIL import Image

import programs
from programs import ROOT

TOOL = ROOT / 'tools' / 'analysis_tools' / 'analyze_logs.py'


@pytest.fixture(scope='module')
def tool():
    return programs.load(TOOL)


def write_log(work_dir, entries, time='20260101_000000', end=''):
    folder = work_dir / time / 'vis_data'
    folder.mkdir(parents=True)
    text = ''.join(json.dumps(entry) + '\n' for entry in entries) + end
    (folder / 'scalars.json').write_text(text)
    return folder / 'scalars.json'


def train_line(step, **values):
    return dict(values, time=0.5, iter=step, step=step)


@pytest.fixture
def run(tmp_path):
    """Eight lines of training, two of validation."""
    entries = [train_line(10 * i, loss=4.0 / i, loss_ce=1.0, grad_norm=2.0, lr=1e-3)
               for i in range(1, 9)]
    for step, score in ((40, 31.25), (80, 30.5)):
        entries.append({'J&F': score, 'motion/J&F': score / 2, 'time': 9.0, 'step': step})
    write_log(tmp_path / 'run', entries)
    return tmp_path / 'run'


def rows(text):
    """Cells of the table that was printed, by key and run."""
    lines = [line.split() for line in text.splitlines()]
    return {(cells[0], cells[1]): cells[2:] for cells in lines[1:] if len(cells) == 8}


def test_table_and_picture(tool, run, tmp_path, capsys):
    out = tmp_path / 'new' / 'curve.png'
    tool.main([str(run), '--out', str(out), '--smooth', '0.5', '--title', 'a run'])
    table = rows(capsys.readouterr().out)
    mean = sum(4.0 / i for i in range(1, 9)) / 8
    assert table == {
        ('loss', 'run'): ['8', '0.5', '80', '0.5', '80', f'{mean:.4g}'],
        ('loss_ce', 'run'): ['8', '1', '80', '1', '10', '1'],
        ('J&F', 'run'): ['2', '30.5', '80', '31.25', '40', '30.88'],
        ('grad_norm', 'run'): ['8', '2', '80', '-', '-', '2'],
        ('lr', 'run'): ['8', '0.001', '80', '-', '-', '0.001']}
    with Image.open(out) as image:
        assert image.format == 'PNG' and image.width > 800
        assert len(image.convert('RGB').getcolors(1 << 20)) > 20, 'an empty picture'


def test_keys_patterns_and_start(tool, run, tmp_path, capsys):
    tool.main([str(run), '--keys', '*/J&F', 'loss', 'val/time', '--start', '41',
               '--out', str(tmp_path / 'a.png')])
    table = rows(capsys.readouterr().out)
    assert list(table) == [('motion/J&F', 'run'), ('loss', 'run'), ('val/time', 'run')]
    assert table['loss', 'run'][0] == '4' and table['motion/J&F', 'run'][:2] == ['1', '15.25']


def test_runs_are_laid_over_one_another(tool, run, tmp_path, capsys):
    """A run may lack what another one has."""
    other = write_log(tmp_path / 'other', [train_line(5, loss=9.0)])
    figure = tool.draw({'run': tool.read_run(str(run)), 'other': tool.read_run(str(other))},
                       ['loss', 'J&F'])
    loss, score = figure.axes
    assert [len(line.get_xdata()) for line in loss.get_lines()] == [8, 1]
    assert score.get_lines()[0].get_ydata().tolist() == [31.25, 30.5]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ['run', 'other']
    tool.main([str(run), str(other), '--keys', 'J&F', '--legend', 'a', 'b',
               '--out', str(tmp_path / 'a.png')])
    assert rows(capsys.readouterr().out)['J&F', 'b'] == ['0', '-', '-', '-', '-', '-']


def test_parts_of_a_resumed_run_are_joined(tool, tmp_path):
    """What the first part did after its last checkpoint was done again."""
    write_log(tmp_path, [train_line(i, loss=1.0) for i in (10, 20, 30)], '20260101_000000')
    write_log(tmp_path, [train_line(i, loss=2.0) for i in (20, 30, 40)], '20260102_000000')
    write_log(tmp_path, [], '20260103_000000')
    loss = tool.read_run(str(tmp_path))['loss']
    assert loss.steps == [10, 20, 30, 40] and loss.values == [1.0, 2.0, 2.0, 2.0]


def test_logs_that_are_odd(tool, tmp_path, capsys):
    write_log(tmp_path, [{'train/loss': 1.0, 'iter': 1, 'step': 1}, {'val/J&F': 2.0, 'step': 1}])
    assert sorted(tool.read_run(str(tmp_path))) == ['J&F', 'loss']
    write_log(tmp_path / 'cut', [train_line(1, loss=1.0)], end='{"loss": 2.0, "st')
    assert tool.read_run(str(tmp_path / 'cut'))['loss'].values == [1.0]
    assert 'the last line is cut off' in capsys.readouterr().err


def test_what_is_not_finite(tool, tmp_path, capsys):
    values = [1.0, math.nan, 3.0, math.inf]
    write_log(tmp_path, [train_line(i, loss=value) for i, value in enumerate(values)])
    series = tool.read_run(str(tmp_path))['loss']
    assert series.mean() == 2.0 and series.best('loss') == 0
    assert series.smooth(0.5) == pytest.approx([1.0, 1.0, 7 / 3, 7 / 3])
    tool.main([str(tmp_path), '--out', str(tmp_path / 'a.png')])
    assert rows(capsys.readouterr().out)['loss', tmp_path.name][1] == 'inf'


BAD = {
    'nothing there': ('missing', [], 'got nothing there: .*missing'),
    'no logs': ('empty', [], r'expected <time>/vis_data/scalars.json in the work dir, got none'),
    'empty file': ('blank/t/vis_data', [], 'expected log lines of iteration 0 and later, got none'),
    'unknown key': ('run', ['--keys', 'los'], "got 'los'; they have: J&F, grad_norm, loss"),
    'after the end': ('run', ['--start', '81'], 'of iteration 81 and later, got none'),
    'no usual key': ('odd', [], 'none of the usual keys .* they have: speed'),
    'damaged': ('damaged', [], r"scalars.json, line 2: expected JSON, got '\{\"loss\": 1"),
    'a list': ('list', [], r"line 1: expected an object with an integer 'step'.*got '\[1, 2\]'"),
    'of a test': ('test', [], "line 1: expected an object with an integer 'step'"),
    'smooth': ('run', ['--smooth', '1'], '--smooth: expected 0 <= W < 1, got 1.0'),
    'legend': ('run', ['--legend', 'a', 'b'], 'expected 1 different names after --legend'),
    'a folder': ('run', ['--out', '.'], 'expected an output file, got a folder'),
    'a strange ending': ('run', ['--out', 'a.xyz'], "Format 'xyz' is not supported"),
}


@pytest.mark.parametrize('case', BAD)
def test_refused(tool, run, tmp_path, monkeypatch, capsys, case):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'empty').mkdir()
    write_log(tmp_path / 'blank', [], 't')
    write_log(tmp_path / 'odd', [train_line(1, speed=1.0) | {'time': 'x'}])
    write_log(tmp_path / 'damaged', [train_line(1)], end='{"loss": 1\n{"step": 2}\n')
    write_log(tmp_path / 'list', [[1, 2]])
    write_log(tmp_path / 'test', [{'J&F': 50.0}])
    path, options, expected = BAD[case]
    with pytest.raises(SystemExit) as error:
        tool.main([path, *options])
    assert error.value.code == 2
    captured = capsys.readouterr()
    assert re.search(expected, captured.err), captured.err
    assert not captured.out
