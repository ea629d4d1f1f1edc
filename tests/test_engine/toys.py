"""Runs on toys, for the tests of hooks."""

import torch
from mmengine import Config
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, HOOKS, MODELS
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import Dataset

import programs


@DATASETS.register_module()
class EngineToySet(Dataset):
    """Item i is drawn with the seed i."""

    metainfo = {}

    def __init__(self, shape=(3, ), length=7):
        self.shape, self.length = tuple(shape), length

    def __len__(self):
        return self.length

    def __getitem__(self, idx):
        x = torch.randn(self.shape, generator=torch.Generator().manual_seed(idx))
        return dict(inputs=x, data_samples=idx)


@MODELS.register_module()
class EngineToyModel(BaseModel):
    """Learns with dropout to say nothing."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 1)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        return dict(loss=self.layer(nn.functional.dropout(inputs, 0.3)).square().mean())


@HOOKS.register_module()
class StopHook(Hook):
    """Ends a run after an iteration, as a kill would."""

    priority = 'LOWEST'

    def __init__(self, at):
        self.at = at

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter + 1 == self.at:
            raise KeyboardInterrupt


def make_runner(work_dir, model=None, dataset=None, **changes):
    """A Runner of 6 iterations with a plain checkpoint every 3; ``changes`` of its config merge."""
    programs.forget_runs()
    cfg = Config(dict(
        model=model or dict(type='EngineToyModel'), work_dir=str(work_dir), train_dataloader=dict(
            batch_size=2, num_workers=0, dataset=dataset or dict(type='EngineToySet'),
            sampler=dict(type='InfiniteSampler'), collate_fn=dict(type='default_collate')),
        train_cfg=dict(type='IterBasedTrainLoop', max_iters=6),
        optim_wrapper=dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=0.05)),
        default_hooks=dict(checkpoint=dict(type='glus_mm.SafeCheckpointHook', interval=3)),
        log_processor=dict(by_epoch=False), log_level='WARNING', randomness=dict(seed=3)))
    cfg.merge_from_dict(changes)
    return Runner.from_cfg(cfg)


def assert_same(one, two, where='checkpoint'):
    """Two states have the same structure, and the same values to the last bit."""
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, two), where
    elif isinstance(one, dict):
        assert one.keys() == two.keys(), where
        for key in one:
            assert_same(one[key], two[key], f'{where}.{key}')
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(two), where
        for i, pair in enumerate(zip(one, two)):
            assert_same(*pair, f'{where}[{i}]')
    else:
        assert one == two, where
