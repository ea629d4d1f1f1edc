"""The tools find what is wrong with a call before they start to work."""

from argparse import Namespace
from pathlib import Path

import pytest
import torch
from mmengine import Config

from glus_mm.utils.command_line import load_config, set_resume
from programs import ROOT

CONFIG = """
default_scope = 'glus_mm'
model = dict(type='Nothing', width=1)
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='AdamW'))
test_evaluator = dict(type='RefVOSMetric')
default_hooks = dict(visualization=dict(type='RefVOSVisualizationHook'))
"""


@pytest.fixture
def config(tmp_path):
    path = tmp_path / 'config.py'
    path.write_text(CONFIG)
    return path


@pytest.fixture
def checkpoint(tmp_path):
    path = tmp_path / 'model.pth'
    torch.save({'state_dict': {'weight': torch.zeros(1)}}, path)
    return path


@pytest.fixture
def call(refusal, monkeypatch, tmp_path):
    """Run a tool that has to refuse; return what it says."""
    monkeypatch.chdir(tmp_path)
    return lambda name, *args: refusal(ROOT / 'tools' / f'{name}.py', *args)


def test_configs_that_are_missing(call, checkpoint, tmp_path, config):
    assert 'expected a config file, got nothing there: no.py' in call('train', 'no.py')
    assert 'expected a config file, got nothing there: no.py' in call('test', 'no.py', checkpoint)
    assert f'got a folder: {tmp_path}' in call('train', tmp_path)
    assert "has no 'trian_cfg'" in call('train', config, '--cfg-options', 'trian_cfg.max_iters=3')
    assert 'invalid choice' in call('train', config, '--launcher', 'mpirun')


def test_checkpoints_that_are_missing(call, config, tmp_path):
    assert 'expected a checkpoint file, got nothing there: no.pth' in call(
        'test', config, 'no.pth')
    assert 'no.pth' in call('train', config, '--resume', 'no.pth')
    assert 'no.pth' in call('train', config, '--cfg-options', 'load_from=no.pth')
    (tmp_path / 'cut.pth').write_bytes(b'PK\3\4 and so on')
    message = call('train', config, '--resume', str(tmp_path / 'cut.pth'))
    assert 'got a torn one (its end is missing' in message and '--resume auto' in message


def test_checkpoint_on_a_hub_that_cannot_be_reached(call, config, local_hub):
    for args in (('test', config, 'Swindl/GLUS-S'),
                 ('train', config, '--cfg-options', 'load_from=Swindl/GLUS-S')):
        message = call(*args)
        assert 'the repository https://huggingface.co/Swindl/GLUS-S could not be reached' in message
        assert 'glus2mm.py GLUS-S OUT_DIR' in message


def test_settings_that_do_not_fit(call, config, checkpoint):
    config.write_text(f"{CONFIG}model['mllm'] = dict(type='LlavaMLLM', tokenizer='load_from')")
    message = call('test', config, checkpoint)
    assert 'model.mllm.tokenizer: expected the tokenizer that comes with the weights' in message
    config.write_text(CONFIG + """
model['mllm'] = dict(type='LlavaMLLM')
train_dataloader = dict(dataset=dict(pipeline=[
    dict(type='BuildConversation', tokenizer='tiny', template='compact')]))
""")
    assert "model.mllm.template='llava_v1' and train_dataloader" in call('train', config)


@pytest.mark.parametrize('option', ['--work-dir', '--out', '--show-dir'])
def test_folder_that_cannot_be_written(call, config, checkpoint, tmp_path, option):
    (tmp_path / 'file').write_text('text')
    message = call('test', config, checkpoint, option, tmp_path / 'file' / 'sub')
    assert 'expected an output folder, got a file' in message
    assert str(tmp_path / 'file') in message


def test_outputs(call, config, checkpoint, tmp_path):
    assert 'expected an output file, got a folder' in call(
        'test', config, checkpoint, '--dump', tmp_path)
    config.write_text("test_evaluator = dict(type='Other')")
    assert 'RefVOSMetric' in call('test', config, checkpoint, '--out', 'out')
    assert 'default_hooks.visualization' in call('test', config, checkpoint, '--show-dir', 'out')


@pytest.mark.skipif(torch.cuda.is_available(), reason='there is an accelerator')
def test_amp_without_accelerator(call, config):
    assert '--amp needs an accelerator' in call('train', config, '--amp')


def test_test_options_reach_the_config(config, checkpoint, tmp_path):
    from glus_mm.cli import test as tool
    cfg = Config.fromfile(config)

    def asked(**options):
        return Namespace(**{**dict(out=None, dump=None, show_dir=None), **options})

    masks, shown, figures = (str(tmp_path / name) for name in ('masks', 'shown', 'f.json'))
    tool.set_outputs(cfg, asked(out=masks, show_dir=shown))
    assert cfg.test_evaluator.output_dir == masks
    assert cfg.default_hooks.visualization.out_dir == shown
    cfg.test_evaluator = [dict(type='Other'), dict(type='glus_mm.RefVOSMetric')]
    tool.set_outputs(cfg, asked(dump=figures), 'swap')
    assert cfg.test_evaluator[1].dump_file == str(tmp_path / 'f_swap.json')
    assert 'dump_file' not in cfg.test_evaluator[0]
    for resume in (False, True):  # as from the config that the first run wrote
        tool.record_videos(cfg, resume)
    assert cfg.custom_hooks == [dict(type='glus_mm.FinishedVideosHook', resume=True)]


def test_resume_and_work_dir(config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cfg = load_config(str(config), {'model.width': 2, 'load_from': 'x.pth'}, None)
    assert Path(cfg.work_dir) == Path('work_dirs/config')
    assert cfg.model.width == 2 and cfg.load_from == 'x.pth'
    assert load_config(str(config), None, str(tmp_path / 'w')).work_dir == str(tmp_path / 'w')
    cfg = load_config(str(config), {'load_from': 'pretrained.pth'}, str(tmp_path / 'run'))
    set_resume(cfg, 'auto')
    assert not cfg.get('resume') and cfg.load_from == 'pretrained.pth', 'nothing to resume yet'
    note = tmp_path / 'run' / 'last_checkpoint'
    note.write_text('/moved/away/iter_5.pth')
    with pytest.raises(FileNotFoundError, match='iter_5.pth'):
        set_resume(cfg, 'auto')
    torch.save({}, tmp_path / 'run' / 'iter_5.pth')
    set_resume(cfg, 'auto')
    assert cfg.resume and cfg.load_from == str(tmp_path / 'run' / 'iter_5.pth')
