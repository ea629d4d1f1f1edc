"""The command line of eval_masks.py, and the benchmark that goes with it."""

import functools
import json

import pytest

import programs
from programs import ROOT

TOOLS = ROOT / 'tools' / 'analysis_tools'
CALLS = {
    'mevis': ('mevis/valid_u', 'pred', 'J&F', 0.622423),
    'revos': ('revos', 'pred', 'A', 0.863344),
    'davis-semi': ('davis', 'pred_davis/anno_2', 'J-Recall', 0.726786),
}


@pytest.fixture
def call(call_tool):
    """Run the tool in this process; return its exit status and what it says."""
    return functools.partial(call_tool, TOOLS / 'eval_masks.py')


def arguments(root, protocol):
    ann, pred, *_ = CALLS[protocol]
    return ['--protocol', protocol, '--ann', root / ann, '--pred', root / pred]


@pytest.mark.parametrize('protocol', CALLS)
def test_protocols(call, evaluators, tmp_path, protocol):
    out = tmp_path / 'sub' / 'figures.json'
    status, table, log = call(*arguments(evaluators, protocol), '--out', out)
    assert status == 0, log
    document = json.loads(out.read_text())
    *_, name, value = CALLS[protocol]
    assert round(document['dataset'][name], 6) == value
    assert document['protocol'] == protocol
    unit = 'per_object' if protocol == 'davis-semi' else 'per_expression'
    assert set(document[unit]) == set(document['per_frame'])
    assert f'{100 * document["dataset"]["F"]:.2f}' in table
    assert '100%' in log and 'peak memory' in log
    assert [file.name for file in out.parent.iterdir()] == ['figures.json']


def test_missing_masks(call, evaluators):
    args = ['--protocol', 'reason-vos', '--ann', evaluators / 'reasonvos', '--pred',
            evaluators / 'pred']
    status, _, log = call(*args)
    assert status == 1
    assert '99/00000.png: expected a predicted mask' in log
    assert "video '0a1b2c3d4e5f', expression '99', frame '00000'" in log
    assert 'Traceback' not in log
    status, table, log = call(*args, '--missing', 'skip')
    assert status == 0 and '58.67' in table
    assert 'missing masks: 12 in 1 folders, such as 0a1b2c3d4e5f/99; they were left out' in log
    assert 'folders that nobody asked for: 9, such as c480p0000001' in log
    assert 'counted as empty' in call(*args, '--missing', 'empty')[2]
    assert 'nobody asked for' in call(*args, '--missing', 'skip', '--extra', 'error')[2]
    table = call(*arguments(evaluators, 'revos'), '--pred-values', 1)[1]
    assert 'A and R with foreground pixels of value 1' in table
    assert '93.46   81.00' in table
    assert '4 expressions of kind' in table
    status, _, log = call(*arguments(evaluators, 'davis-semi'), '--pred-values', 1)
    assert status == 1 and 'pred_values' in log


def test_forms_of_predictions(call, evaluators, tmp_path):
    args = ['--protocol', 'long-rvos', '--ann', evaluators / 'longrvos' / 'valid', '--missing',
            'empty', '--slices', '--pred']
    (tmp_path / 'Annotations').symlink_to(evaluators / 'longrvos' / 'pred')
    status, table, log = call(*args, tmp_path, '--pred-format', 'auto')
    assert status == 0, log
    assert 'predictions read as png-any' in log
    assert 'videos without any prediction: 1, such as vid001' in log
    assert '68.27   68.45   68.36   64.55   46.72' in table
    status, _, log = call(*args, evaluators, '--pred-format', 'auto')
    assert status == 1 and 'pred_format says which one' in log


def test_slices_and_a_comparison(call, evaluators, tmp_path):
    args = arguments(evaluators, 'mevis')
    status, table, log = call(*args, '--slices', '--out', tmp_path / 'a.json')
    assert status == 0, log
    assert 'target size: 1 to 5 %' in table and 'too few videos' in table
    document = json.loads((tmp_path / 'a.json').read_text())
    assert document['slices']['rows'][0]['J&F'] == pytest.approx(document['dataset']['J&F'])
    status, table, log = call(
        *args[:4], '--compare', tmp_path / 'a.json', evaluators / 'pred', '--names', 'saved',
        'scored', '--report', tmp_path / 'r' / 'r.html', '--examples', 1, '--masks',
        evaluators / 'pred', evaluators / 'pred', '--out', tmp_path / 'c.json')
    assert status == 0, log
    assert table.startswith('scored against saved: +0.00 J&F on 4 videos, 16 expressions')
    page = (tmp_path / 'r' / 'r.html').read_text()
    assert '<title>scored against saved</title>' in page and page.count('<img') == 2 * 12
    rows = json.loads((tmp_path / 'c.json').read_text())['rows']
    assert rows[0]['first'] == rows[0]['second']
    assert rows[0]['first'] == pytest.approx(document['slices']['rows'][0]['J&F'])


@pytest.mark.parametrize('change,message', [
    (['--report', 'r.html'], '--report goes with --compare, got it without'),
    (['--examples', '2'], '--examples goes with --report'),
    (['--compare', 'a', 'b'], 'not allowed with argument --pred'),
    (['--protocol', 'davis'], 'invalid choice'),
    (['--workers', '0'], 'at least 1, got 0'),
    (['--ann', 'nowhere'], 'nowhere: expected a folder with annotations'),
    (['--pred', 'nowhere'], 'nowhere: expected a folder with predictions'),
    (['--out', '.'], 'expected an output file, got a folder'),
])
def test_bad_calls(call, evaluators, tmp_path, monkeypatch, change, message):
    monkeypatch.chdir(tmp_path)
    status, _, log = call(*arguments(evaluators, 'mevis'), *change)
    assert status == (1 if change[-1] in ('0', 'nowhere') else 2)
    assert message in log and 'Traceback' not in log
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_as_a_program_with_two_workers(evaluators, tmp_path):
    run = programs.run(TOOLS / 'eval_masks.py', *arguments(evaluators, 'mevis'), '--workers', '2',
                       '--out', tmp_path / 'f.json')
    assert run.returncode == 0, run.stderr
    expected = json.loads((evaluators / 'expected.json').read_text())['mevis']
    found = json.loads((tmp_path / 'f.json').read_text())['per_frame']
    assert {key: {name: values[name] for name in 'JF'}
            for key, values in found.items()} == expected['per_frame']


def test_benchmark(monkeypatch, capsys):
    """It compares before it measures; the figures themselves depend on the machine."""
    tool = programs.load(ROOT / 'dev/benchmark_j_and_f.py')
    monkeypatch.setattr(tool, 'SIZES', {(90, 160): (8, 1.0)})
    monkeypatch.setattr('sys.argv', 'benchmark --rounds 1 --pairs 2 --random 50'.split())
    tool.main()
    out = capsys.readouterr().out
    assert 'bit-equal on 50 of 50 pairs' in out
    assert 'F 90x160' in out and 'J 90x160' in out
    tool = programs.load(ROOT / 'dev/benchmark_j_and_f.py')
    monkeypatch.setattr(tool, 'boundary_accuracy', lambda gt, pred: 0.5)
    with pytest.raises(SystemExit, match='expected .* got .*0.5'):
        tool.main()


@pytest.mark.slow
def test_benchmarks_of_sets(tmp_path, monkeypatch, capfd):
    tool = programs.load(ROOT / 'dev/benchmark_j_and_f.py')
    for what, counts, expected in (
            ('--eval-masks', '2 3 2', ('1 worker :', '2 workers: ', 'x as fast as 1')),
            ('--compare', '2 3 4', ('2 videos, 6 expressions, 4 frames', 'report of ')),
            ('--parse', '3 14 8', ('MeViSDataset: ', 'json.load of the masks: ', 'worker 1 '))):
        monkeypatch.setattr('sys.argv', ['benchmark', what, str(tmp_path), '--workers', '1', '2',
                                         '--counts', *counts.split()])
        tool.main()
        out = capfd.readouterr().out
        assert all(text in out for text in expected), out
        assert not list(tmp_path.iterdir()), 'the synthetic set is deleted'
