"""The official numbers, part by part, and that differences and gaps are found."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from programs import ROOT

FOLDER = ROOT / 'dev'
TOOL = FOLDER / 'check_official.py'
FIXTURE = ROOT / 'tests' / 'data' / 'official_glus_tiny'
sys.path.insert(0, str(FOLDER))

from official_checks import CHECKS, FixtureError, OfficialFixture, Report  # noqa: E402

QUICK = ('tables', 'preprocess', 'train/contrastive_units', 'round_trip')


@pytest.fixture(scope='module')
def official(tmp_path_factory):
    return OfficialFixture(FIXTURE, tmp_path_factory.mktemp('official'))


@pytest.fixture
def copy(tmp_path):
    """A copy of the fixture whose files are links, to be replaced and not written."""
    return Path(shutil.copytree(FIXTURE, tmp_path / 'fixture',
                                copy_function=lambda a, b: Path(b).symlink_to(a)))


def replace(path, content):
    path.unlink()
    path.write_text(json.dumps(content))


def replace_arrays(path, **changes):
    arrays = {**np.load(path), **changes}
    path.unlink()
    np.savez(path, **{key: value for key, value in arrays.items() if value is not None})


def check(fixture_dir, tmp_path, *parts):
    report, fixture = Report(), OfficialFixture(fixture_dir, tmp_path / 'work')
    for part in parts:
        report.run(part, lambda report, part=part: CHECKS[part](fixture, report))
    return report


def failed(report):
    return [f'{row.part}: {row.name}' for row in report.rows if not row.ok]


# The numbers


@pytest.mark.slow
@pytest.mark.parametrize('part', [part for part in CHECKS if part not in QUICK])
def test_equal_to_the_official_code(official, part):
    report = Report()
    report.run(part, lambda report: CHECKS[part](official, report))
    assert report.ok, '\n' + report.table()
    assert sum(row.values for row in report.rows) > 0


def test_the_command(call_tool, tmp_path):
    """The parts that are quick; prints a table and writes the same as JSON."""
    out = tmp_path / 'new' / 'table.json'
    status, table, error = call_tool(TOOL, FIXTURE, '--out', out, '--parts', *QUICK)
    assert status == 0, table + error
    written = json.loads(out.read_text())
    assert written['ok'] and {row['part'] for row in written['rows']} == set(QUICK)
    lines = table.splitlines()
    assert lines[0].split() == ['part', 'comparison', 'values', 'largest', 'difference',
                                'tolerance']
    assert sum(line.endswith('  ok') for line in lines) == len(written['rows'])
    assert lines[-1] == f'{len(written["rows"])} of {len(written["rows"])} comparisons agree'


def test_the_command_where_something_differs(call_tool, copy):
    tables = json.loads((copy / 'tables.json').read_text())
    next(iter(tables.values()))['4']['12'][2] += 1
    replace(copy / 'tables.json', tables)
    (copy / 'preprocess' / 'expected.npz').unlink()
    status, table, _ = call_tool(TOOL, copy, '--parts', 'tables', 'preprocess')
    assert status == 1
    rows = [line for line in table.splitlines() if 'FAILED' in line]
    assert rows[0].split()[:5] == ['tables', 'context', 'frames', '774', '1']
    assert 'expected.npz' in rows[1]
    assert rows[2] == '1 of 3 comparisons agree; 2 FAILED'


def test_no_fixture(refusal, tmp_path):
    assert 'expected a folder with the official fixture' in refusal(TOOL, tmp_path / 'none')


# What is different or missing is found


def test_other_images(copy, tmp_path):
    path = copy / 'preprocess' / 'expected.npz'
    image = np.load(path)['clip_720x1280_s4'].copy()
    image[0, 0, 0] += 2e-5
    replace_arrays(path, clip_720x1280_s4=image)
    assert failed(check(copy, tmp_path, 'preprocess')) == [
        'preprocess: image of vision tower, 720x1280']


def test_other_losses(copy, tmp_path):
    path = copy / 'train' / 'expected.json'
    content = json.loads(path.read_text())
    units = content['contrastive']['unit']
    units[0]['loss'] *= 1 + 1e-5
    units[1]['neg'][3] += 1
    replace(path, content)
    assert failed(check(copy, tmp_path, 'train/contrastive_units')) == [
        'train/contrastive_units: negatives that are drawn',
        'train/contrastive_units: losses of single tokens']


@pytest.mark.parametrize(('part', 'file', 'message'), [
    ('tables', 'tables.json', 'tables.json'),
    ('preprocess', 'preprocess/expected.npz', 'preprocess/expected.npz'),
    ('inference/expected_kf', 'inference/expected_kf.json', 'expected_kf.json'),
    ('inference/expected_kf', 'clip', 'clip'),
    ('train/lora', 'train/lora.npz', 'lora.npz'),
    ('round_trip', 'checkpoint/pytorch_model-00002-of-00002.bin', 'pytorch_model-00002-of-00002'),
    ('round_trip', 'checkpoint', 'checkpoint'),
    ('round_trip', 'sam2_tiny_a.yaml', r'expected one sam2\*.yaml'),
])
def test_missing_files(copy, tmp_path, part, file, message):
    path = copy / file
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    fixture = OfficialFixture(copy, tmp_path / 'work')
    with pytest.raises(FixtureError, match=message):
        CHECKS[part](fixture, Report())


def test_what_is_missing(copy, tmp_path):
    replace_arrays(copy / 'preprocess' / 'expected.npz', sam_160x240_s16=None)
    replace_arrays(copy / 'train' / 'contrastive.npz', prefill_tokens=None)
    report = check(copy, tmp_path, 'preprocess', 'train/contrastive_units')
    notes = [row.note for row in report.rows if not row.ok]
    assert 'sam_160x240_s<step>' in notes[0] and "'prefill_tokens'" in notes[1]
    for name in ('tables.json', 'preprocess/expected.npz'):
        (copy / name).unlink()
        (copy / name).write_text('no longer')
    report = check(copy, tmp_path, 'tables', 'preprocess')
    assert failed(report) == ['tables: what the fixture should hold',
                              'preprocess: what the fixture should hold']


# The table


def test_nothing_compared_is_no_success():
    report = Report()
    assert not report.ok
    report.run('empty', lambda report: None)
    assert failed(report) == ['empty: anything to compare']
    report = Report()
    report.close('none', [], [], 1.0)
    assert failed(report) == [': none']
    report = Report()
    report.close('a', 1.0, 1.0, 0.1)
    report.state('b', 'not in this copy')
    assert report.ok
    assert report.table().splitlines()[-1].split() == ['b', '-', '(not', 'in', 'this', 'copy)']


def test_what_differs_is_told():
    report = Report()
    report.close('a', [1.0, 2.0], [1.5, 2.0], 0.5)
    report.close('a', 1.0, 1.75, 0.5)
    report.relative('b', [1.0, -99.0], [2.0, -100.0], 0.4)
    report.direction('c', [3.0, 0.0], [3.0, 4.0], 0.9)
    report.same('list', [1, 2, 3], [1, 5, 4])
    report.same('set', {'a', 'b'}, {'b', 'c'})
    report.same('equal', ['x'], ['x'])
    assert [(row.values, row.largest) for row in report.rows[:4]] == [
        (3, 0.75), (2, 0.5), (2, 0.8), (3, 2)]
    assert failed(report) == [': a', ': b', ': list', ': set']
    assert report.rows[4].note == "only one has ['a', 'c']"


@pytest.mark.parametrize('compare', ['close', 'relative', 'direction'])
@pytest.mark.parametrize(('ours', 'theirs'), [
    ([np.nan, 1.0], [1.0, 1.0]), ([1.0, 1.0], [1.0, np.nan]), ([1.0], [1.0, 1.0]), ([0.0], [0.0])])
def test_what_cannot_be_compared_fails(compare, ours, theirs):
    report = Report()
    with np.errstate(invalid='ignore'):
        getattr(report, compare)('a', ours, theirs, 1e9)
        report.close('a', [0.0], [0.0], 1e9)
    assert report.ok == (compare == 'close' and ours == [0.0])
    json.dumps(report.as_dict(), allow_nan=False)
