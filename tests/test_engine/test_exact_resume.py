"""A run that stops anywhere and resumes ends with the same bits as one that goes through."""

import multiprocessing
import os
import random
import resource
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, HOOKS, METRICS, MODELS
from torch import nn
from torch.utils.data import Dataset

import toys


@DATASETS.register_module()
class ExactToySet(Dataset):
    """Its items are random numbers of the process that loads them."""

    metainfo = {}

    def __len__(self):
        return 7

    def __getitem__(self, idx):
        return {'inputs': torch.rand(6) + idx + random.random() + np.random.rand(),
                'data_samples': idx}


@MODELS.register_module()
class ExactToyModel(BaseModel):
    """Draws from every generator that there is."""

    def __init__(self, width=6):
        super().__init__()
        self.norm = nn.BatchNorm1d(6)
        self.layers = nn.Sequential(nn.Linear(6, width), nn.Dropout(0.5), nn.Linear(width, 1))
        self.generator = torch.Generator().manual_seed(5)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        noise = random.random() + np.random.normal() + torch.rand(1, generator=self.generator)
        y = self.layers(self.norm(inputs))[:, 0] * noise
        return {'loss': y.square().mean()} if mode == 'loss' else y


@METRICS.register_module()
class ExactToyMetric(BaseMetric):
    """Better every time; draws as much as it likes."""

    def process(self, data_batch, data_samples):
        self.results.append(torch.rand(3).sum() + random.random() + np.random.rand())

    def compute_metrics(self, results):
        type(self).calls = getattr(type(self), 'calls', 0) + 1
        return {'score': type(self).calls}


def make_runner(work_dir, max_iters=12, stop_at=None, accumulate=1, validate=False, hook=(),
                width=6, **changes):
    loader = dict(batch_size=2, num_workers=0, dataset=dict(type='ExactToySet'),
                  collate_fn=dict(type='default_collate'))
    validation = dict(
        val_dataloader=dict(loader, sampler=dict(type='DefaultSampler', shuffle=True)),
        val_cfg=dict(type='ValLoop'), val_evaluator=dict(type='ExactToyMetric'))
    return toys.make_runner(
        work_dir, dict(type='ExactToyModel', width=width), dict(type='ExactToySet'),
        train_cfg=dict(max_iters=max_iters, val_interval=2),
        optim_wrapper=dict(accumulative_counts=accumulate, optimizer=dict(lr=0.1)),
        param_scheduler=[dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=9)],
        default_hooks=dict(checkpoint=dict(dict(max_keep_ckpts=2), **dict(hook))),
        custom_hooks=[] if stop_at is None else [dict(type='StopHook', at=stop_at)],
        **(validation if validate else {}), **changes)


def final(folder, iteration=12):
    """All that has to be equal in a checkpoint."""
    checkpoint = torch.load(folder / f'iter_{iteration}.pth', weights_only=True)
    hub = checkpoint['message_hub']['log_scalars']
    result = {key: checkpoint[key] for key in (
        'state_dict', 'optimizer', 'param_schedulers', 'random_state')}
    return dict(result, losses=hub['train/loss'], lr=hub['train/lr'])


def interrupted(folder, stops=(5, 8, 10), **kwargs):
    """Train with interruptions."""
    for stop in stops:
        with pytest.raises(KeyboardInterrupt):
            make_runner(folder, stop_at=stop, resume=(folder / 'last_checkpoint').exists(),
                        **kwargs).train()
    make_runner(folder, resume=True, **kwargs).train()


def names(folder):
    return sorted(path.name for path in folder.glob('*.pth'))


@pytest.mark.parametrize('options', [
    dict(), dict(accumulate=2), dict(validate=True), dict(accumulate=5, validate=True)])
def test_interrupted_is_as_straight(tmp_path, options):
    make_runner(tmp_path / 'straight', **options).train()
    interrupted(tmp_path / 'parts', **options)
    toys.assert_same(final(tmp_path / 'straight'), final(tmp_path / 'parts'))


def test_without_the_random_states_it_is_not(tmp_path, capsys):
    """The test above would notice."""
    make_runner(tmp_path / 'straight').train()
    make_runner(tmp_path / 'parts', max_iters=3).train()
    checkpoint = torch.load(tmp_path / 'parts' / 'iter_3.pth', weights_only=True)
    del checkpoint['random_state']
    torch.save(checkpoint, tmp_path / 'parts' / 'iter_3.pth')
    make_runner(tmp_path / 'parts', resume=True).train()
    assert 'holds no random states' in capsys.readouterr().out
    with pytest.raises(AssertionError):
        toys.assert_same(final(tmp_path / 'straight'), final(tmp_path / 'parts'))


def test_validation_and_accumulation(tmp_path):
    make_runner(tmp_path / 'without').train()
    make_runner(tmp_path / 'with', validate=True).train()
    toys.assert_same(final(tmp_path / 'without'), final(tmp_path / 'with'))
    make_runner(tmp_path, accumulate=2, max_iters=11, hook=dict(max_keep_ckpts=-1)).train()
    assert names(tmp_path) == ['iter_10.pth', 'iter_11.pth', 'iter_4.pth', 'iter_6.pth']


def test_checkpoint_at_a_new_best_goes_on_exactly(tmp_path):
    """It is written while validation runs."""
    options = dict(validate=True, hook=dict(save_best='score', rule='greater', interval=5))
    make_runner(tmp_path / 'straight', **options).train()
    interrupted(tmp_path / 'parts', stops=(7, 9), **options)
    assert 'best_score_iter_12.pth' in names(tmp_path / 'parts')
    toys.assert_same(final(tmp_path / 'straight'), final(tmp_path / 'parts'))


@HOOKS.register_module()
class WitnessHook(Hook):
    """Notes which checkpoints there are just before one is written."""

    priority = 'LOWEST'
    seen: list = []

    def before_save_checkpoint(self, runner, checkpoint):
        self.seen.append(names(Path(runner.work_dir)))


def test_the_older_one_goes_after_the_new_one_is_there(tmp_path):
    WitnessHook.seen.clear()
    runner = make_runner(tmp_path, validate=True, hook=dict(
        max_keep_ckpts=1, save_best='score', rule='greater'))
    runner.register_hook(dict(type='WitnessHook'))
    runner.train()
    assert [seen for seen in WitnessHook.seen if not any('iter' in name for name in seen)] == \
        WitnessHook.seen[:1], 'nothing but the first was written without another one beside it'
    assert names(tmp_path) == ['best_score_iter_12.pth', 'iter_12.pth']


def test_torn_checkpoints_are_skipped(tmp_path, capsys):
    make_runner(tmp_path / 'straight').train()
    assert names(tmp_path / 'straight') == ['iter_12.pth', 'iter_9.pth'], 'only so many are kept'
    with pytest.raises(KeyboardInterrupt):
        make_runner(tmp_path / 'parts', stop_at=8).train()
    os.truncate(tmp_path / 'parts' / 'iter_6.pth', 1000)
    (tmp_path / 'parts' / '.iter_9.pth.part').write_bytes(b'half')
    make_runner(tmp_path / 'parts', resume=True).train()
    assert 'skipped the torn checkpoint' in capsys.readouterr().out
    toys.assert_same(final(tmp_path / 'straight'), final(tmp_path / 'parts'))
    assert not list((tmp_path / 'parts').glob('.*.part'))


@HOOKS.register_module()
class FullDiskHook(Hook):
    """Lets the system refuse files larger than half of a checkpoint."""

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if batch_idx == 4:
            size = (Path(runner.work_dir) / 'iter_3.pth').stat().st_size
            resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, resource.RLIM_INFINITY))


def train_on_a_full_disk(folder, answer):
    """In a process of its own, which keeps the limit and has nowhere to write its output to."""
    for stream in (1, 2):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
    runner = make_runner(folder)
    runner.register_hook(dict(type='FullDiskHook'))
    try:
        runner.train()
    except OSError as error:
        answer.send(str(error))


def test_a_disk_without_room_leaves_the_last_one_whole(tmp_path):
    make_runner(tmp_path / 'straight').train()
    receiver, answer = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context('fork').Process(
        target=train_on_a_full_disk, args=(tmp_path / 'parts', answer))
    process.start()
    process.join()
    assert process.exitcode == 0 and receiver.poll()
    assert receiver.recv() == (
        f'[Errno 27] File too large: {tmp_path}/parts/iter_6.pth could not be written; the latest '
        f'one that is whole is {tmp_path}/parts/iter_3.pth. With more room on the disk, --resume '
        'auto goes on from there')
    assert names(tmp_path / 'parts') == ['iter_3.pth']
    assert not list((tmp_path / 'parts').glob('.*.part'))
    make_runner(tmp_path / 'parts', resume=True).train()
    toys.assert_same(final(tmp_path / 'straight'), final(tmp_path / 'parts'))


def test_what_does_not_fit_the_run_is_named(tmp_path, capsys):
    make_runner(tmp_path, max_iters=3).train()
    for strict in (True, False):
        with pytest.raises(ValueError) as error:
            make_runner(tmp_path, resume=True, width=4, hook=dict(strict=strict)).train()
        for part in ('does not fit the model ExactToyModel', 'iter_3.pth', 'other shape (3)',
                     'layers.0.weight: expected (4, 6), got (6, 6)'):
            assert part in str(error.value)
    runner = make_runner(tmp_path, resume=True)
    runner.cfg.optim_wrapper['paramwise_cfg'] = dict(custom_keys={'norm': dict(lr_mult=0.1)})
    runner.optim_wrapper = runner.cfg.optim_wrapper
    with pytest.raises(ValueError, match=r'with 6 parameters in 6 groups, as the config makes it, '
                                         r'got the state of one with 6 parameters:'):
        runner.train()
    path = tmp_path / 'iter_3.pth'
    checkpoint = torch.load(path, weights_only=True)
    checkpoint['random_state']['ranks'] *= 2
    del checkpoint['optimizer']
    torch.save(checkpoint, path)
    make_runner(tmp_path, resume=True, max_iters=4).train()
    told = capsys.readouterr().out
    assert 'random states of 2 processes, this run has 1' in told
    assert 'holds no state of an optimizer' in told
    checkpoint = torch.load(tmp_path / 'iter_4.pth', weights_only=True)
    checkpoint['optimizer']['state'][2]['exp_avg'] = torch.zeros(2, 2)
    torch.save(checkpoint, tmp_path / 'iter_4.pth')
    with pytest.raises(ValueError, match=r'layers\.0\.weight: expected \(6, 6\), got \(2, 2\)'):
        make_runner(tmp_path, resume=True).train()
