"""What tests of several processes need, and a training that takes no time."""

import pytest

from programs import ROOT

TOY_PARTS = '''
import torch
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, MODELS
from torch import nn
from torch.utils.data import Dataset


@DATASETS.register_module()
class ToySet(Dataset):

    def __len__(self):
        return 8

    def __getitem__(self, idx):
        x = torch.randn(3, generator=torch.Generator().manual_seed(idx))
        return dict(inputs=x, data_samples=x.sum())


@MODELS.register_module()
class ToyModel(BaseModel):

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 1)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        y = self.fc(inputs)[:, 0]
        return dict(loss=(y - data_samples).square().mean()) if mode == 'loss' else y
'''
TOY_CONFIG = '''
_base_ = ['{root}/configs/_base_/default_runtime.py']
custom_imports = dict(imports=['toy_parts'])
model = dict(type='ToyModel')
train_dataloader = dict(
    batch_size=2, num_workers=0, dataset=dict(type='ToySet'),
    sampler=dict(type='InfiniteSampler', shuffle=True), collate_fn=dict(type='default_collate'))
train_cfg = dict(type='IterBasedTrainLoop', max_iters={iters})
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.1))
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval=2, max_keep_ckpts=-1))
'''


@pytest.fixture
def toy_config(tmp_path):
    """``toy_config(iters)`` writes ``toy.py`` and what it imports into ``tmp_path``."""

    def write(iters):
        (tmp_path / 'toy_parts.py').write_text(TOY_PARTS)
        (tmp_path / 'toy.py').write_text(TOY_CONFIG.format(root=ROOT, iters=iters))
        return 'toy.py'

    return write
