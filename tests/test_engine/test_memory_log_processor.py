"""Training logs state the memory in use."""

import json

import numpy as np
import torch
from mmengine import Config
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, MODELS
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import Dataset

from glus_mm.engine.memory_log_processor import host_memory


@DATASETS.register_module()
class MemoryToySet(Dataset):

    metainfo = {}

    def __len__(self):
        return 4

    def __getitem__(self, idx):
        return dict(x=torch.ones(2) * idx)


@MODELS.register_module()
class MemoryToyModel(BaseModel):

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 1)

    def forward(self, x, mode='tensor'):
        return dict(loss=self.layer(x).square().mean())


def test_host_memory_is_a_peak_in_mib():
    before = host_memory()
    block = np.ones(300 << 20, np.uint8)
    during = host_memory()
    del block
    assert 30 < before < 1 << 20
    # The kernel keeps the number of pages per core and adds them up now and then.
    assert during - before <= 320 and host_memory() >= during - 8 >= 300


def test_memory_is_logged(tmp_path):
    runner = Runner.from_cfg(Config(dict(
        model=dict(type='MemoryToyModel'), work_dir=str(tmp_path),
        train_dataloader=dict(
            batch_size=1, dataset=dict(type='MemoryToySet'),
            sampler=dict(type='InfiniteSampler'), collate_fn=dict(type='default_collate')),
        train_cfg=dict(type='IterBasedTrainLoop', max_iters=4),
        optim_wrapper=dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.1)),
        default_hooks=dict(logger=dict(type='LoggerHook', interval=2)),
        log_processor=dict(type='glus_mm.MemoryLogProcessor', by_epoch=False))))
    runner.train()
    log, = tmp_path.glob('*/vis_data/scalars.json')
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    assert [entry['iter'] for entry in entries] == [2, 4]
    limit = 1 if torch.cuda.is_available() else 0
    assert all(type(entry['memory']) is int and entry['memory'] >= limit for entry in entries)
    text, = tmp_path.glob('*/*.log')
    assert f'memory: {entries[0]["memory"]}' in text.read_text()
