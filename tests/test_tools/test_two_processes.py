"""Two processes train as one with twice the batch: videos with unequal numbers of expressions, and
a mix with talk, where a process, or all of them, may have no masks.
"""

import json
import subprocess

import pytest

import programs
from glus_mm.datasets.moving_shapes import write_split
from programs import ROOT

STEPS = 20
# In float64, so that what is left of a difference is not rounding that the optimizer amplifies.
PARTS = '''
import torch

torch.set_default_dtype(torch.float64)
'''
CONFIG = '''
_base_ = [
    '{root}/configs/_base_/models/glus_tiny.py',
    '{root}/configs/_base_/datasets/moving_shapes.py',
    '{root}/configs/_base_/schedules/adamw.py', '{root}/configs/_base_/default_runtime.py'
]
custom_imports = dict(imports=['float64_by_default'])
model = dict(
    mllm=dict(vision_tower=dict(hidden_size=16, num_hidden_layers=1),
              llm=dict(hidden_size=32, num_hidden_layers=1)),
    mask_head=dict(image_size=64, sam2=dict(d_model=32)),
    loss_contrastive=dict(
        type='ObjectContrastiveLoss', gather=True, num_negatives=4, bank=dict(size=64),
        positives='video', loss_weight=1.0))
_base_.train_pipeline[0].update(num_context=2, num_query=3)
_base_.train_pipeline[3].update(sam_size=64)
train_dataloader = dict(
    num_workers=0, persistent_workers=False,
    dataset=dict(data_root='{data}/train', pipeline=_base_.train_pipeline))
train_cfg = dict(type='IterBasedTrainLoop', max_iters={steps})
param_scheduler = [dict(type='LinearLR', start_factor=0.1, end=4, by_epoch=False)]
default_hooks = dict(checkpoint=dict(interval=1000), logger=dict(interval=1))
log_processor = dict(window_size=1)
'''
# Of the 20 steps some have talk in one process only, and some in both.
TALK = '''
talk_pipeline = [
    dict(type='BuildTalk', tokenizer='tiny', template='compact', num_context=2, num_pairs=3),
    dict(type='LoadRefVOSFrames', same_size=False), *_base_.train_pipeline[3:4],
    *_base_.train_pipeline[5:]
]
train_dataloader = dict(
    num_workers=0, persistent_workers=False,
    sampler=dict(_delete_=True, type='MixedVideoSampler', ratios=[1, 2]),
    dataset=dict(_delete_=True, type='MixedRefVOSDataset', datasets=[
        dict(_base_.train_dataloader.dataset, data_root='{data}/train',
             pipeline=_base_.train_pipeline),
        dict(type='ConversationDataset', data_root='{data}/train', ann_file='talk.json',
             pipeline=talk_pipeline)]))
'''
pytestmark = pytest.mark.slow


@pytest.fixture(params=['referring', 'talk'])
def train(tmp_path, request):
    """``train(name, processes, batch_size)``: start it; the work folder is ``name``."""
    write_split(tmp_path, 8, seed=5, split='train', mp4=False, talk=6)
    path = tmp_path / 'train' / 'meta_expressions.json'
    meta = json.loads(path.read_text())
    for i, video in enumerate(meta['videos'].values()):
        video['expressions'] = dict(list(video['expressions'].items())[:1 + i % 4])
    path.write_text(json.dumps(meta))
    (tmp_path / 'float64_by_default.py').write_text(PARTS)
    config = CONFIG + TALK if request.param == 'talk' else CONFIG
    (tmp_path / 'config.py').write_text(config.format(root=ROOT, data=tmp_path, steps=STEPS))

    def start(name, processes, batch_size):
        options = ['--work-dir', name, '--cfg-options', f'train_dataloader.batch_size={batch_size}']
        program = [ROOT / 'tools' / 'train.py', 'config.py']
        if processes > 1 and request.param == 'talk':  # as without the repository
            program = ['-m', 'torch.distributed.run', f'--nproc_per_node={processes}',
                       f'--master_port={programs.free_port()}', '-m', 'glus_mm', 'train',
                       'config.py', '--launcher', 'pytorch']
            processes = 1
        return programs.start(*program, *options, cwd=tmp_path, processes=processes,
                              stderr=subprocess.STDOUT)

    return start


def curves(process, folder):
    """What the training wrote into its log, by name."""
    out, _ = process.communicate(timeout=900)
    assert process.returncode == 0, out[-4000:]
    path, = folder.glob('*/vis_data/scalars.json')
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(lines) == STEPS
    names = {name for line in lines for name in line if 'loss' in name} | {'grad_norm', 'lr'}
    return {name: [line.get(name, 0.0) for line in lines] for name in names}


def test_two_processes_equal_one_with_twice_the_batch(train, tmp_path):
    alone = train('alone', 1, 4)
    both = curves(train('both', 2, 2), tmp_path / 'both')
    expected = curves(alone, tmp_path / 'alone')
    assert both.keys() == expected.keys() and len(both) == 7
    for name, values in expected.items():
        assert both[name] == pytest.approx(values, rel=1e-6, abs=1e-9), name
    assert len(set(expected['loss'])) == STEPS
    assert sum(value > 0.01 for value in expected['loss_contrastive']) > 5, 'pairs were met'
