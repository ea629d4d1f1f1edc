"""Errors of the training data save the state first; a dead worker is named as such."""

import os
import re
import signal
from pathlib import Path

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.registry import DATASETS, HOOKS
from torch import multiprocessing

import toys

BAD = 'bad'


@DATASETS.register_module()
class FailingToySet(toys.EngineToySet):
    """Item 9 cannot be read, or ends its worker, while the file says so."""

    def __init__(self, folder):
        super().__init__(length=1000)
        self.file = Path(folder) / BAD

    def __getitem__(self, idx):
        if idx == 9 and self.file.exists():
            if self.file.read_text() == 'die':
                os.kill(os.getpid(), signal.SIGKILL)
            raise FileNotFoundError('frame 00009.jpg of video_a is missing')
        return super().__getitem__(idx)


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


def train(work_dir, workers=0, accumulate=1, kill_at=None, **changes):
    work_dir.mkdir(exist_ok=True)
    hooks = [dict(type='glus_mm.DataErrorHook')]
    if kill_at is not None:
        hooks.append(dict(type='KillWorkerHook', at=kill_at))
    runner = toys.make_runner(
        work_dir, None, dict(type='FailingToySet', folder=str(work_dir)),
        train_dataloader=dict(num_workers=workers, sampler=dict(shuffle=False)),
        train_cfg=dict(max_iters=8), custom_hooks=hooks, optim_wrapper=dict(
            accumulative_counts=accumulate, optimizer=dict(lr=0.1)), **changes)
    try:
        runner.train()
    finally:
        iterator = runner.train_loop.dataloader_iterator
        while not hasattr(iterator, '_iterator'):
            iterator = iterator.batches
        if workers:  # at once; the garbage collector would wait for each of them
            iterator._iterator._shutdown_workers()


def spoilt(tmp_path, how):
    """Folder of a run that will not get beyond item 9."""
    folder = tmp_path / 'run'
    folder.mkdir()
    (folder / BAD).write_text(how)
    return folder


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
    folder = spoilt(tmp_path, 'raise')
    with pytest.raises(FileNotFoundError, match=r'frame 00009\.jpg of video_a is missing'):
        train(folder, workers)
    log = ' '.join(capsys.readouterr().out.split())
    assert 'loading the data of iteration 5 failed' in log
    assert f'The state after 4 iterations is saved in {folder}/iter_4.pth; --resume goes on' in log
    assert (folder / 'last_checkpoint').read_text() == f'{folder}/iter_4.pth'
    if not workers:
        with pytest.raises(FileNotFoundError):
            train(folder, resume=True)
        assert 'The latest checkpoint is' in ' '.join(capsys.readouterr().out.split())
    goes_on(folder, workers=workers)


def test_a_worker_that_dies_while_it_loads(tmp_path):
    folder = spoilt(tmp_path, 'die')
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
    folder = spoilt(tmp_path, 'raise')
    with pytest.raises(FileNotFoundError):
        train(folder, accumulate=3)
    assert f'The latest checkpoint is {folder}/iter_3.pth' in ' '.join(
        capsys.readouterr().out.split())
    assert [path.name for path in folder.glob('*.pth')] == ['iter_3.pth']
    goes_on(folder, accumulate=3)
