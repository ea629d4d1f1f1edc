"""Errors of the training data save the state first; a dead worker is named as such."""

import os
import re
import signal
from pathlib import Path

import pytest
import torch
from mmengine import Config
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, HOOKS, MODELS
from mmengine.runner import Runner
from torch import multiprocessing, nn
from torch.utils.data import Dataset

import programs

BAD = 'bad'


@DATASETS.register_module()
class FailingToySet(Dataset):
    """Item 9 cannot be read, or ends its worker, while the file says so."""

    metainfo = {}

    def __init__(self, folder):
        self.file = Path(folder) / BAD

    def __len__(self):
        return 1000

    def __getitem__(self, idx):
        if idx == 9 and self.file.exists():
            if self.file.read_text() == 'die':
                os.kill(os.getpid(), signal.SIGKILL)
            raise FileNotFoundError('frame 00009.jpg of video_a is missing')
        return {'inputs': torch.full((3, ), idx / 10), 'data_samples': idx}


@MODELS.register_module()
class FailingToyModel(BaseModel):

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 1)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        return {'loss': self.layer(nn.functional.dropout(inputs, 0.3)).square().mean()}


@HOOKS.register_module()
class KillWorkerHook(Hook):
    """Kills a worker in the middle of an iteration, and lets the signal arrive there."""

    def __init__(self, at):
        self.at = at

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if batch_idx == self.at:
            # Workers of earlier tests may be there too.
            worker = max(multiprocessing.active_children(), key=lambda process: process.pid)
            worker.kill()
            worker.join()
            sum(range(200000))


def train(work_dir, workers=0, accumulate=1, kill_at=None, **kwargs):
    programs.forget_runs()
    work_dir.mkdir(exist_ok=True)
    hooks = [dict(type='glus_mm.DataErrorHook')]
    if kill_at is not None:
        hooks.append(dict(type='KillWorkerHook', at=kill_at))
    runner = Runner.from_cfg(Config(dict(
        model=dict(type='FailingToyModel'), work_dir=str(work_dir),
        train_dataloader=dict(
            batch_size=2, num_workers=workers, collate_fn=dict(type='default_collate'),
            dataset=dict(type='FailingToySet', folder=str(work_dir)),
            sampler=dict(type='InfiniteSampler', shuffle=False)),
        train_cfg=dict(type='IterBasedTrainLoop', max_iters=8),
        optim_wrapper=dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=0.1),
                           accumulative_counts=accumulate),
        default_hooks=dict(checkpoint=dict(type='glus_mm.SafeCheckpointHook', interval=3)),
        custom_hooks=hooks, log_processor=dict(by_epoch=False), log_level='WARNING',
        randomness=dict(seed=3), **kwargs)))
    try:
        runner.train()
    finally:
        iterator = runner.train_loop.dataloader_iterator
        while not hasattr(iterator, '_iterator'):
            iterator = iterator.batches
        if workers:  # at once; the garbage collector would wait for each of them
            iterator._iterator._shutdown_workers()


def weights(folder):
    return torch.load(folder / 'iter_8.pth', weights_only=True)['state_dict']


def goes_on(folder, **kwargs):
    """The run resumes, and ends as one without an error."""
    (folder / BAD).unlink(missing_ok=True)
    train(folder, resume=True, **kwargs)
    train(folder.parent / 'straight', **kwargs)
    one, two = weights(folder), weights(folder.parent / 'straight')
    assert all(torch.equal(one[key], two[key]) for key in one)


@pytest.mark.parametrize('workers', [0, 1])
def test_an_item_that_cannot_be_read(tmp_path, workers, capsys):
    folder = tmp_path / 'run'
    folder.mkdir()
    (folder / BAD).write_text('raise')
    with pytest.raises(FileNotFoundError, match=r'frame 00009\.jpg of video_a is missing'):
        train(folder, workers)
    log = ' '.join(capsys.readouterr().out.split())
    assert 'loading the data of iteration 5 failed' in log
    assert f'The state after 4 iterations is saved in {folder}/iter_4.pth; --resume goes on' in log
    assert (folder / 'last_checkpoint').read_text() == f'{folder}/iter_4.pth'
    goes_on(folder, workers=workers)


def test_a_worker_that_dies_while_it_loads(tmp_path):
    folder = tmp_path / 'run'
    folder.mkdir()
    (folder / BAD).write_text('die')
    with pytest.raises(RuntimeError) as error:
        train(folder, workers=1)
    message = str(error.value)
    assert message.startswith('a process that loads data is gone: DataLoader worker (pid')
    assert 'memory has most likely run out: try fewer train_dataloader.num_workers' in message
    # It loads ahead, so that it dies some batches before the one with the bad item.
    number = re.search(r'after (\d) iterations is saved in .*/iter_(\d)\.pth; --resume', message)
    assert number[1] == number[2] in '1234'
    goes_on(folder, workers=1)


def test_a_worker_that_dies_while_the_model_computes(tmp_path):
    """torch would raise in the middle of the iteration, from where no run can go on."""
    folder = tmp_path / 'run'
    handler = signal.getsignal(signal.SIGCHLD)
    with pytest.raises(RuntimeError, match='The state after 5 iterations is saved in .*iter_5.pth'):
        train(folder, workers=1, kill_at=4)
    now = signal.getsignal(signal.SIGCHLD)
    assert now == handler or now.__module__.startswith('torch.')
    goes_on(folder, workers=1)


def test_nothing_is_saved_in_the_middle_of_an_accumulation(tmp_path, capsys):
    folder = tmp_path / 'run'
    folder.mkdir()
    (folder / BAD).write_text('raise')
    with pytest.raises(FileNotFoundError):
        train(folder, accumulate=3)
    assert f'The latest checkpoint is {folder}/iter_3.pth' in ' '.join(
        capsys.readouterr().out.split())
    assert [path.name for path in folder.glob('*.pth')] == ['iter_3.pth']
    goes_on(folder, accumulate=3)


def test_nothing_new_to_save(tmp_path, capsys):
    folder = tmp_path / 'run'
    folder.mkdir()
    (folder / BAD).write_text('raise')
    for expected in ('The state after 4 iterations is saved', 'The latest checkpoint is'):
        with pytest.raises(FileNotFoundError):
            train(folder, resume=(folder / 'last_checkpoint').exists())
        assert expected in ' '.join(capsys.readouterr().out.split())
