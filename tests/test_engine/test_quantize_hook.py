"""Training with 4-bit base weights on a CPU: what is quantized, what learns, what is saved."""

import importlib.util

import pytest
import torch
from mmengine import Config
from mmengine.hooks import Hook
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from torch import nn

from glus_mm.datasets.moving_shapes import write_split
from glus_mm.engine import QuantizeHook
from glus_mm.registry import MODELS
from programs import ROOT

pytestmark = pytest.mark.skipif(importlib.util.find_spec('bitsandbytes') is None,
                                reason='needs bitsandbytes: pip install glus_mm[quant]')
CONFIG = '''
_base_ = [
    '{root}/configs/_base_/models/glus_tiny.py',
    '{root}/configs/_base_/datasets/moving_shapes.py',
    '{root}/configs/_base_/schedules/adamw.py', '{root}/configs/_base_/default_runtime.py'
]
work_dir = '{data}/run'
load_from = '{data}/start.pth'
model = dict(
    dtype='bfloat16',
    mllm=dict(
        vision_tower=dict(hidden_size=16, num_hidden_layers=1),
        llm=dict(hidden_size=64, num_hidden_layers=1, intermediate_size=64),
        lora=dict(r=4, alpha=8, dropout=0.0), gradient_checkpointing=True,
        trainable=['llm.*.lora_*', 'seg_projector.*']),
    mask_head=dict(image_size=64, sam2=dict(d_model=32), trainable=['sam2.sam_mask_decoder.[!c]*']))
_base_.train_pipeline[3].update(sam_size=64)
train_dataloader = dict(
    batch_size=1, num_workers=0, persistent_workers=False,
    dataset=dict(data_root='{data}/train', min_frames=4, pipeline=_base_.train_pipeline))
test_dataloader = test_evaluator = test_cfg = None
train_cfg = dict(type='IterBasedTrainLoop', max_iters=2)
custom_hooks = [dict(type='QuantizeHook')]
'''


class Watch(Hook):
    """Look into the model while it trains."""

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.layer = runner.model.mllm.llm.layers[0].self_attn.q_proj
        self.loss = outputs['loss'].item()


def make_runner(tmp_path, **options):
    write_split(tmp_path, 2, seed=5, split='train', mp4=False)
    (tmp_path / 'config.py').write_text(CONFIG.format(root=ROOT, data=tmp_path))
    cfg = Config.fromfile(tmp_path / 'config.py')
    cfg.model.mllm.update(options)
    with DefaultScope.overwrite_default_scope('glus_mm'):
        torch.save(dict(state_dict=MODELS.build(cfg.model).state_dict()), tmp_path / 'start.pth')
    return Runner.from_cfg(cfg)


def load(path):
    return torch.load(path, weights_only=True)['state_dict']


@pytest.mark.slow
def test_trains_adapters_on_4_bits_and_saves_plain_weights(tmp_path):
    runner, watch = make_runner(tmp_path), Watch()
    runner.register_hook(watch)
    runner.train()
    assert type(watch.layer.base_layer).__name__ == 'Linear4bit'
    assert watch.layer.base_layer.weight.dtype == torch.uint8
    assert watch.layer.base_layer.weight.numel() == 64 * 64 // 2
    assert type(watch.layer.lora_A['default']) is nn.Linear
    assert 0 < watch.loss < 100
    before, after = load(tmp_path / 'start.pth'), load(tmp_path / 'run' / 'iter_2.pth')
    assert before.keys() == after.keys()
    assert all(before[key].shape == after[key].shape and before[key].dtype == after[key].dtype
               for key in before)
    for key, value in before.items():
        if 'mllm.llm.layers.' in key and key.endswith(('proj.weight', 'base_layer.weight')):
            error = (after[key].float() - value.float()).norm() / value.float().norm()
            assert 0.01 < error < 0.15, key
        elif 'lora_B' in key:
            assert after[key].abs().max() > 0 == value.abs().max()
        elif 'vision_tower' in key:
            assert torch.equal(after[key], value)


def test_nothing_to_quantize(tmp_path):
    runner = make_runner(tmp_path, lora=None, trainable=['llm.*'])
    with pytest.raises(ValueError, match='expected frozen linear layers in mllm.llm.layers'):
        runner.train()
    with pytest.raises(ValueError, match='quant_type must be one of'):
        QuantizeHook(quant_type='int4')
