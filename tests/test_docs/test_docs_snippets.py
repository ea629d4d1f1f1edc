"""The snippets of the documentation, run as they stand there."""

import json
import re

import pytest
import torch
from mmengine import Config
from mmengine.runner import Runner

import programs
from glus_mm.datasets.moving_shapes import write_split
from programs import ROOT


def snippet(page, mark):
    """The Python block after a mark of a page."""
    text = (ROOT / 'docs' / page).read_text(encoding='utf-8')
    return re.search(rf'<!-- {mark} -->\n```python\n(.*?)```', text, re.DOTALL).group(1)


@pytest.fixture
def own_data(tmp_path):
    """A folder like the root of the repository, with a data set in the layout of MeViS."""
    for split, number in (('train', 3), ('valid_u', 1)):
        write_split(tmp_path / 'data' / 'mine', number, seed=3, split=split, mp4=False)
    for name in ('configs', 'checkpoints'):
        (tmp_path / name).symlink_to(ROOT / name)
    programs.forget_runs()
    yield tmp_path
    programs.forget_runs()


def write_config(folder, mark):
    """Write a config of the page on own data; return its path."""
    text = snippet('own_data.md', mark)
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith('#')]
    assert len(lines) <= 15
    path = folder / f'{mark}.py'
    path.write_text(text)
    return path


@pytest.mark.slow
def test_own_data_train_and_test_with_the_tools(own_data):
    config = write_config(own_data, 'own-data-tiny')
    options = ['--cfg-options', 'train_cfg.max_iters=2', 'train_dataloader.batch_size=1',
               'train_dataloader.num_workers=0', 'train_dataloader.persistent_workers=False']
    for tool, *args in (('train', config.name, *options),
                        ('test', config.name, 'work_dirs/own-data-tiny/iter_2.pth')):
        done = programs.run(ROOT / 'tools' / f'{tool}.py', *args, cwd=own_data)
        assert done.returncode == 0, done.stderr[-3000:]
    assert 'J&F' in done.stdout + done.stderr


def test_own_data_at_the_published_size_made_tiny(own_data, shrink, monkeypatch):
    monkeypatch.chdir(own_data)
    cfg = shrink(Config.fromfile(write_config(own_data, 'own-data-7b')))
    assert cfg.load_from == 'Swindl/GLUS-S'
    cfg.merge_from_dict({
        'load_from': None, 'work_dir': str(own_data / 'run'), 'train_cfg.max_iters': 1,
        'optim_wrapper.accumulative_counts': 1, 'train_dataloader.batch_size': 1,
        'train_dataloader.num_workers': 0, 'train_dataloader.persistent_workers': False,
        'default_hooks.checkpoint.leave_out_frozen': False})
    runner = Runner.from_cfg(cfg)
    assert len(runner.build_dataloader(cfg.train_dataloader).dataset) == 3
    assert len(runner.build_dataloader(cfg.test_dataloader).dataset) == 1
    runner.train()
    assert (own_data / 'run' / 'iter_1.pth').is_file()


@pytest.mark.slow
def test_a_registered_loss_in_another_project():
    text = snippet('extending.md', 'registered-loss')
    assert len([line for line in text.splitlines() if line.strip()]) <= 5
    script = ('import torch\n'
              'from mmengine.registry import DefaultScope, Registry, MODELS as PARENT\n'
              'Registry("model", parent=PARENT, scope="other")\n'
              'DefaultScope.get_instance("other", scope_name="other")\n'
              'logits = torch.tensor([[[9.0, -9.0]], [[-9.0, 9.0]]])\n'
              'target = torch.tensor([[[1.0, 0.0]], [[1.0, 0.0]]])\n'
              f'{text}\nprint(loss(logits, target).tolist())')
    done = programs.run('-c', script)
    assert done.returncode == 0, done.stderr
    right, wrong = json.loads(done.stdout.splitlines()[-1])
    assert right < 0.01 < 0.2 < wrong and torch.tensor([right, wrong]).isfinite().all()
