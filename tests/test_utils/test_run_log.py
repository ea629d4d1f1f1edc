"""What a run says on the screen and in its log file, and how it ends on an error."""

import logging
from pathlib import Path

import pytest
from mmengine import Config
from mmengine.logging import MMLogger
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

from glus_mm.utils.run_log import build_runner, one_line_errors
from glus_mm.visualization import RefVOSLocalVisualizer
from programs import ROOT

TINY = ROOT / 'configs' / 'glus' / 'glus_tiny_moving-shapes.py'


@pytest.fixture
def runner(tmp_path, capsys):
    """Of the tiny model, of which much is frozen; it has built its optimizer."""
    before = MMLogger.__init__
    cfg = Config.fromfile(TINY)
    cfg.work_dir = str(tmp_path / 'run')
    runner = build_runner(cfg)
    assert MMLogger.__init__ is before
    with DefaultScope.overwrite_default_scope('glus_mm'):
        runner.optim_wrapper = runner.build_optim_wrapper(runner.cfg.optim_wrapper)
    runner.logger.info('Iter(train) stands here')
    yield runner
    RefVOSLocalVisualizer._instance_dict.clear()


def file_of(runner):
    return next(Path(handler.baseFilename) for handler in runner.logger.handlers
                if isinstance(handler, logging.FileHandler))


def test_the_first_iteration_is_on_the_first_screen(runner, capsys):
    lines = [line for line in capsys.readouterr().out.splitlines() if 'Iter(train)' in line
             or ' - mmengine - ' in line or 'paramwise' in line or 'Config' in line]
    assert 'Iter(train) stands here' in lines[-1] and len(lines) < 25, '\n'.join(lines)
    frozen = sum(not p.requires_grad for p in runner.model.parameters())
    assert frozen > 100
    assert f'{frozen} frozen parameters are left out of the optimizer' in lines[-2]


def test_tables_are_in_the_file(runner):
    text = file_of(runner).read_text()
    trained = sum(p.requires_grad for p in runner.model.parameters())
    assert text.count('DEBUG - paramwise_options -- ') >= trained
    assert text.count('is skipped since its requires_grad=False') == 0 or 'DEBUG' in text
    for table in ('Config:', 'System environment:', 'Hooks will be executed in the following'):
        assert table in text
    assert not any('WARNING' in line and 'is skipped' in line for line in text.splitlines())


@pytest.mark.parametrize('error', [
    ValueError('expected a, got b'), KeyError('expected a key'), RuntimeError('no memory left'),
    FloatingPointError('the loss is not finite')])
def test_an_error_is_one_line_with_a_traceback_in_the_file(runner, capsys, error):
    with pytest.raises(SystemExit) as stop, one_line_errors('train.py'):
        raise error
    file = file_of(runner)
    assert stop.value.code == 1
    assert capsys.readouterr().err == (f'train.py: error: {error.args[0]} (traceback in {file})\n')
    assert 'Traceback (most recent call last)' in file.read_text()
    assert f'{type(error).__name__}: ' in file.read_text()


def test_what_is_no_error_of_the_user_keeps_its_traceback(runner):
    for error in (AssertionError('a bug'), IndexError('a bug')):
        with pytest.raises(type(error)), one_line_errors('train.py'):
            raise error
    MMLogger._instance_dict.clear()
    with pytest.raises(RuntimeError), one_line_errors('train.py'):
        raise RuntimeError('without a log file')
    with pytest.raises(SystemExit), one_line_errors('train.py'):
        raise ValueError('without a log file')


def test_two_runs_in_one_process_have_a_folder_each(tmp_path):
    """As in a notebook: what the second one logs is not in the folder of the first one."""
    folders = []
    for name in ('first', 'second'):
        (tmp_path / f'{name}.py').write_text(f"_base_ = ['{TINY}']\n")
        cfg = Config.fromfile(tmp_path / f'{name}.py')
        cfg.work_dir = str(tmp_path / name)
        runner = Runner.from_cfg(cfg)
        runner.visualizer.add_scalars(dict(loss=1.0), step=1)
        files = tmp_path.glob('*/*/vis_data/scalars.json')
        folders.append(sorted(file.parts[-4] for file in files))
    RefVOSLocalVisualizer._instance_dict.clear()
    assert folders == [['first'], ['first', 'second']]
