"""The ablation study: its statistics, tables and schedule, and a small one that is interrupted."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from mmengine import Config
from PIL import Image

import programs
from programs import ROOT

TOOL = ROOT / 'projects' / 'ablation_study' / 'ablation.py'
sys.path.insert(0, str(TOOL.parent))

import ablation  # noqa: E402
from ablation_study.differences import paired_bootstrap  # noqa: E402
from ablation_study.records import load_records, training_log, write_log  # noqa: E402
from ablation_study.report import (  # noqa: E402
    Results,
    comparison_table,
    figure_table,
    selector_table,
    time_line,
)
from ablation_study.rows import COMPARISONS, GROUPS, KINDS, ROWS, get_row  # noqa: E402
from ablation_study.runs import read_figures, schedule, write_truth  # noqa: E402
from ablation_study.schedule import Task, run_tasks  # noqa: E402
from ablation_study.settings import Settings  # noqa: E402

CHECKPOINT = ROOT / 'checkpoints' / 'glus_tiny_motion_moving-shapes.pth'
TINY = dict(steps=2, selector_steps=2, label_videos=1, train_videos=3, test_videos=1)


# Differences over seeds and videos


def test_intervals():
    first = [{'a': [3.0, 5.0], 'b': [7.0]}, {'a': [1.0, 2.0], 'b': [0.0]}]
    second = [{key: [value - 2.0 for value in row] for key, row in seed.items()} for seed in first]
    found = paired_bootstrap(first, second)
    assert (found.mean, found.low, found.high) == pytest.approx((2, 2, 2))
    assert (found.seeds, found.videos, found.expressions) == (2, 2, 3)
    assert found.verdict == 'shown'
    assert paired_bootstrap(second, first).verdict == 'the other way round'
    rng = np.random.default_rng(0)
    values = rng.normal(1.0, 4.0, 400)
    first = [{str(i): [value] for i, value in enumerate(values)}]
    second = [{str(i): [0.0] for i in range(400)}]
    found = paired_bootstrap(first, second)
    half = 1.96 * values.std() / 20
    assert found.mean == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - half, abs=0.05)
    assert found.high == pytest.approx(values.mean() + half, abs=0.05)
    videos = [str(i) for i in range(50)]
    zero = [{name: [0.0] for name in videos} for _ in range(3)]
    apart = [{name: [value] for name in videos} for value in (-1.0, 1.0, 3.0)]
    found = paired_bootstrap(apart, zero)
    assert found.mean == pytest.approx(1) and found.low == -1 and found.high == 3
    assert found.verdict == 'not shown'
    first = [{'a': [1.0] * 9, 'b': [0.0], 'none': []}]
    second = [{'a': [0.0] * 9, 'b': [0.0], 'none': []}]
    found = paired_bootstrap(first, second)
    assert found.mean == pytest.approx(0.9) and found.low == 0 and found.high == 1
    assert (found.videos, found.expressions) == (2, 10)


# Rows, groups and tables


def test_tasks():
    tasks = ablation.make_tasks(None, [0, 1])
    places = {task.key: i for i, task in enumerate(tasks)}
    assert len(places) == len(tasks)
    for task in tasks:
        assert all(places[need] < places[task.key] for need in task.needs)
    # What is shipped was trained once; data ratios are run by name only.
    assert ('shipped', 0) in places and ('shipped', 1) not in places
    assert not any('ratio' in name for name, _ in places)
    reduced = {task.row for task in ablation.make_tasks(None, [0], reduced=True)}
    assert 'glu_mb_stride-1' not in reduced and {'glu', 'shipped_stride-1'} <= reduced
    named = ablation.make_tasks(['selector_best', 'glu_mb_ratio-1-1'], [3])
    assert [task.key for task in named] == [
        ('glu_mb_oc', 3), ('glu_mb_ratio-1-1', 3), ('selector_best', 3)]
    with pytest.raises(ValueError, match="'cutie' cannot be run: it needs"):
        ablation.make_tasks(['cutie'], [0])


def test_rows_are_configs_and_comparisons_are_between_rows():
    names = [row.name for row in ROWS]
    assert len(set(names)) == len(names)
    for row in ROWS:
        assert row.kind in KINDS
        assert bool(row.note) == (row.kind == 'not run')
        assert bool(row.base) == (row.kind in ('tested', 'selector')) or row.kind == 'shipped'
        if row.kind != 'not run':
            cfg = Config.fromfile(ROOT / row.path)
            assert cfg.model.type == 'GLUS' and 'propagator' in cfg.model.test_cfg or \
                row.name not in ('global', 'selector_sam2')
            assert len((ROOT / row.path).read_text().splitlines()) <= 20
    assert {name for claim in COMPARISONS for name in (claim.better, claim.worse)} <= set(names)
    with pytest.raises(ValueError, match="got 'all'"):
        get_row('all')


def test_configs_differ_in_what_they_ablate():
    cfgs = {row.name: Config.fromfile(ROOT / row.path) for row in ROWS if row.kind != 'not run'}

    def strategies(name):
        return {cfgs[name].train_dataloader.dataset.pipeline[0].strategy}

    assert strategies('glu') == strategies('glu_mb_oc') == {'global_local'}
    for name in ('global', 'local', 'random'):
        assert strategies(name) == {name}
    memory = {name: (cfg.model.train_cfg.use_memory, cfg.model.test_cfg.use_memory)
              for name, cfg in cfgs.items()}
    assert memory['glu'] == memory['local'] == memory['global'] == (False, False)
    assert memory['glu_mb'] == memory['glu_mb_oc'] == memory['selector_trained'] == (True, True)
    assert memory['glu_mb_test-without'] == (True, False)
    assert cfgs['local'].model.test_cfg.num_context == 0
    assert cfgs['glu_mb_oc'].model.loss_contrastive.type == 'ObjectContrastiveLoss'
    assert 'loss_contrastive' not in cfgs['glu_mb'].model
    assert [cfgs[f'glu_mb_stride-{n}'].model.test_cfg.memory_stride for n in (1, 5, 7, 9)] == [
        1, 5, 7, 9]
    ratio = cfgs['glu_mb_ratio-4-15'].train_dataloader
    assert ratio.sampler.ratios == [4, 15]
    assert [child.data_root.split('/')[-2] for child in ratio.dataset.datasets] == [
        'default', 'crowd']


def record(row, seed, values, in_sight=None):
    figures = {'valid_u_00000': {'0': values[0], '1': values[1]},
               'valid_u-late_00000': {'0': values[2]}}
    kinds = {'valid_u_00000': {'0': 'event', '1': 'no-target'},
             'valid_u-late_00000': {'0': 'late'}}
    sight = {} if in_sight is None else {'valid_u-late_00000': {'0': in_sight}}
    return dict(row=row, seed=seed, seconds={'train': 60.0, 'test': 30.0}, figures=figures,
                in_sight=sight, kinds=kinds)


def test_tables():
    results = Results.collect([
        record('glu', 0, [50.0, 100.0, 20.0], 60.0), record('glu', 1, [52.0, 0.0, 20.0], 64.0),
        record('local', 0, [40.0, 0.0, 10.0]), record('local', 1, [44.0, 0.0, 10.0])])
    lines = {line.split('|')[1].strip(): [cell.strip() for cell in line.split('|')[3:-1]]
             for line in figure_table(results).splitlines()}
    glu = dict(zip(GROUPS, lines['GLU']))
    assert glu['all'] == '35.5 ± 0.7' and glu['event'] == '51.0 ± 1.4'
    assert glu['late'] == '20.0 ± 0.0' and glu['late, in sight'] == '62.0 ± 2.8'
    assert glu['no-target'] == '50.0 ± 70.7' and glu['motion'] == '-'
    assert lines['GLU'][-1] == '2'
    assert lines['expressions'][:-1] == ['2', '1', '0', '0', '0', '1', '0', '0', '1', '1', '1']
    assert lines['random frames (VISA)'][0] == 'not run'
    assert lines['Cutie from the key frame of KFS'][0].startswith('not run: needs the package')
    text = comparison_table(results)
    assert '| GLU > local reasoning | event | +9.0 | +8.0 .. +10.0 | 2, 1, 1 | shown |' in text
    assert '| GLU > global reasoning | all | | | | not run |' in text
    assert time_line(results) == '8 programs of 6 minutes together'
    other = dict(record('glu', 1, [1, 2, 3]), kinds={'valid_u_00000': {'0': 'motion'}})
    with pytest.raises(ValueError, match='same test videos'):
        Results.collect([record('glu', 0, [1, 2, 3]), other])
    part = record('local', 0, [40.0, 0.0, 10.0])
    del part['figures']['valid_u_00000'], part['kinds']['valid_u_00000']
    results = Results.collect([record('glu', 0, [50.0, 100.0, 20.0]), part])
    assert results.means('local', 'all') == results.means('local', 'event') == []
    assert results.means('local', 'late') == [10.0]
    assert results.compare('glu', 'local', 'all') is None
    assert results.compare('glu', 'local', 'late').mean == 10
    text = selector_table({0: {'trained': {'spearman': 0.5}, 'untrained': {'spearman': -0.25}}})
    assert [line[:24] for line in text.splitlines()[2:]] == [
        '| trained | 0 | 0.50 | -', '| untrained | 0 | -0.25 ']


def test_logs(tmp_path):
    records = [record('glu', 0, [50.0, 100.0, 20.0], 3.0), record('local', 0, [4.0, 0.0, 1.0])]
    del records[1]['figures']['valid_u_00000'], records[1]['kinds']['valid_u_00000']
    (tmp_path / 'results').mkdir()
    for entry in records:
        (tmp_path / 'results' / f'{entry["row"]}.json').write_text(json.dumps(entry))
    write_log(tmp_path)
    (tmp_path / 'log').mkdir()
    (tmp_path / 'results.jsonl').rename(tmp_path / 'log' / 'results.jsonl')
    assert load_records(tmp_path / 'log') == records
    (tmp_path / 'log' / 'results.jsonl').write_text('{}\n')
    with pytest.raises(ValueError, match='records of a study'):
        load_records(tmp_path / 'log')
    for part, steps in (('1', (10, 20)), ('2', (20, 30))):
        folder = tmp_path / part / 'vis_data'
        folder.mkdir(parents=True)
        (folder / 'scalars.json').write_text(''.join(
            json.dumps(dict(step=step, loss=float(part), lr=1.0)) + '\n' for step in steps))
    assert training_log(tmp_path) == [
        dict(step=10, loss=1.0), dict(step=20, loss=2.0), dict(step=30, loss=2.0)]


def test_figures_and_truth_of_a_test(tmp_path):
    for variant in ('default', 'elsewhere', 'crossing', 'crowd', 'late'):
        folder = tmp_path / variant / 'valid_u'
        folder.mkdir(parents=True)
        (folder / 'mask_dict.json').write_text(json.dumps(
            {'0': [None, {'size': [4, 4], 'counts': 'a'}]}))
        video = dict(frames=['00000', '00001'], expressions={
            '0': dict(anno_id=[0]), '1': dict(anno_id=[])})
        (folder / 'meta_expressions.json').write_text(json.dumps({'videos': {variant: video}}))
    track = {'J&F': 0.5, 'kind': 'late'}
    frames = {'J': [0.1, 0.75], 'F': [0.2, 0.25], 'J&F': [0.15, 0.5]}
    names = [f'{variant}_{exp}' for variant in ('default', 'elsewhere', 'crossing', 'crowd', 'late')
             for exp in '01']
    dump = tmp_path / 'figures.json'
    dump.write_text(json.dumps(dict(per_expression=dict.fromkeys(names, track),
                                    per_frame=dict.fromkeys(names, frames))))
    found = read_figures(dump, tmp_path)
    assert found['figures']['late'] == {'0': 50.0, '1': 50.0}
    assert found['in_sight']['late'] == {'0': 50.0}
    write_truth(dump, tmp_path, tmp_path / 'new' / 'ious.json')
    truth = json.loads((tmp_path / 'new' / 'ious.json').read_text())
    assert truth['videos']['late']['expressions'] == {'0': [0.0, 0.75], '1': [0.0, 0.0]}
    assert truth['dataset'] == 'moving_shapes'


# Runs


def test_tasks_run():
    log, lock = [], threading.Lock()

    def work(task):
        with lock:
            log.append(task.key)
        time.sleep(0.01)
        if task.row == 'b':
            raise RuntimeError('broke')

    tasks = [Task('c', 0, needs=(('a', 0),)), Task('a', 0), Task('b', 0),
             Task('d', 0, needs=(('b', 0),)), Task('e', 0, needs=(('z', 0),))]
    failed = run_tasks(tasks, work, jobs=2, done=[('z', 0)])
    assert log.index(('a', 0)) < log.index(('c', 0)) and ('e', 0) in log and ('d', 0) not in log
    assert failed[('b', 0)] == 'broke' and 'needs' in failed[('d', 0)] and len(failed) == 2
    running, most = [], []

    def work(task):
        running.append(task)
        most.append(len(running))
        time.sleep(0.02)
        running.remove(task)

    assert run_tasks([Task('a', i, lock='x') for i in range(4)], work, jobs=4) == {}
    assert most == [1] * 4
    for steps in (1, 2, 15, 300):
        options = schedule(steps, 10)
        assert options['param_scheduler.0.end'] >= 1
        assert options['param_scheduler.1.begin'] < options['param_scheduler.1.end'] == steps


def test_settings_are_those_of_the_folder(tmp_path):
    settings = Settings(start='x', **TINY)
    settings.claim(tmp_path)
    settings.claim(tmp_path)
    with pytest.raises(ValueError, match='other settings'):
        Settings(start='y', **TINY).claim(tmp_path)
    data = tmp_path / 'data'
    settings.prepare_data(data)
    assert len(list((data / 'default' / 'train' / 'JPEGImages').iterdir())) == 3
    assert len(list((data / 'late' / 'valid_u' / 'JPEGImages').iterdir())) == 1
    # An interrupted split is made anew, one of another size is an error.
    (data / 'late' / 'train' / 'meta_expressions.json').unlink()
    settings.prepare_data(data)
    assert (data / 'late' / 'train' / 'meta_expressions.json').is_file()
    with pytest.raises(ValueError, match='expected 6 videos, got 3'):
        Settings(start='x', **dict(TINY, train_videos=6)).prepare_data(data)


SMALL = '''
import sys
sys.path.insert(0, {tools!r})
import ablation
ablation.REDUCED.update({sizes})
sys.exit(ablation.main())
'''


@pytest.mark.slow
def test_a_killed_study_goes_on(tmp_path):
    """Kill a study during a training; the next one resumes it and does not repeat a row."""
    program = SMALL.format(tools=str(TOOL.parent), sizes=dict(TINY, steps=6))
    command = ['-c', program, '--reduced', '--out', tmp_path / 'out', '--start',
               CHECKPOINT, '--rows', 'glu', '--seeds', '0', '--jobs', '1']
    run_dir = tmp_path / 'out' / 'runs' / 'glu_seed0'
    with open(tmp_path / 'log', 'w') as file:
        study = programs.start(*command, stdout=file, stderr=subprocess.STDOUT,
                               start_new_session=True)
        for _ in range(9000):
            if list(run_dir.glob('iter_*.pth')) or study.poll() is not None:
                break
            time.sleep(0.1)
        os.killpg(study.pid, signal.SIGKILL)
        study.wait()
    assert list(run_dir.glob('iter_*.pth')), (tmp_path / 'log').read_text()
    assert not load_records(tmp_path / 'out')
    second = programs.run(*command)
    assert second.returncode == 0, second.stdout + second.stderr
    assert 'resumed' in (run_dir / 'train.txt').read_text().lower()
    [row] = load_records(tmp_path / 'out')
    assert row['row'] == 'glu' and row['losses'] and set(row['seconds']) == {'train', 'test'}
    third = programs.run(*command)
    assert '1 runs, 1 of them finished before' in third.stdout
    assert '| GLU | 4 |' in (tmp_path / 'out' / 'ablation.md').read_text()
    assert Image.open(tmp_path / 'out' / 'ablation.png').size[0] > 500
