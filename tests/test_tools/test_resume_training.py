"""Two processes and one see the samples in the same order, also where one goes on for two.

That a killed training ends with the same bits is tested in test_check_resume.py.
"""

import json
import subprocess

import pytest

import programs
from glus_mm.datasets.moving_shapes import write_split
from programs import ROOT

PARTS = '''
import json
import os

from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.registry import HOOKS


@HOOKS.register_module()
class NoteSamplesHook(Hook):
    """Write down what every iteration trains on."""

    priority = 'LOWEST'

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        samples = data_batch['data_samples']
        notes = [[s.dataset, s.video_id, s.exp_ids, s.context_frame_ids, s.query_frame_ids,
                  [ids.tolist() for ids in inputs]]
                 for s, inputs in zip(samples, data_batch['inputs']['input_ids'])]
        with open(os.environ['NOTES'], 'a') as file:
            file.write(json.dumps([batch_idx, get_rank(), notes]) + '\\n')
'''
CONFIG = '''
_base_ = [
    '{root}/configs/_base_/models/glus_tiny.py',
    '{root}/configs/_base_/datasets/moving_shapes.py',
    '{root}/configs/_base_/schedules/adamw.py', '{root}/configs/_base_/default_runtime.py'
]
custom_imports = dict(imports=['note_samples'])
custom_hooks = [dict(type='NoteSamplesHook')]
model = dict(
    mllm=dict(vision_tower=dict(hidden_size=16, num_hidden_layers=1),
              llm=dict(hidden_size=32, num_hidden_layers=1)),
    mask_head=dict(image_size=64, sam2=dict(d_model=32)))
_base_.train_pipeline[3].update(sam_size=64)
child = dict(type='MovingShapesDataset', data_root='{data}/train', min_frames=4,
             pipeline=_base_.train_pipeline)
train_dataloader = dict(
    batch_size=2, num_workers=1, persistent_workers=False,
    sampler=dict(_delete_=True, type='MixedVideoSampler', ratios=[2, 1]),
    dataset=dict(_delete_=True, type='MixedRefVOSDataset', datasets=[
        child, dict(child, seed=1, metainfo=dict(dataset='others'))]))
train_cfg = dict(type='IterBasedTrainLoop', max_iters=6)
param_scheduler = [dict(type='LinearLR', start_factor=0.1, end=4, by_epoch=False)]
default_hooks = dict(checkpoint=dict(interval=3, max_keep_ckpts=-1), logger=dict(interval=1))
'''
pytestmark = pytest.mark.slow


@pytest.fixture
def start(tmp_path):
    """Start a training in a folder; its notes go into ``<name>.jsonl``."""
    write_split(tmp_path, 6, seed=5, split='train', mp4=False)
    (tmp_path / 'note_samples.py').write_text(PARTS)
    (tmp_path / 'config.py').write_text(CONFIG.format(root=ROOT, data=tmp_path))

    def call(name, *args, processes=1):
        return programs.start(
            ROOT / 'tools' / 'train.py', 'config.py', '--work-dir', name, *args, cwd=tmp_path,
            env=dict(NOTES=str(tmp_path / f'{name}.jsonl')), processes=processes,
            stderr=subprocess.STDOUT)

    return call


def finish(process):
    out, _ = process.communicate(timeout=600)
    assert process.returncode == 0, out[-4000:]
    return out


def notes_of(path):
    """(iteration, rank) and samples of every line."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [((iteration, rank), samples) for iteration, rank, samples in lines]


def test_two_processes_go_on_as_one(start, tmp_path):
    """Together they see what one sees, and one goes on with the very next sample."""
    whole = start('whole', '--cfg-options', 'train_cfg.max_iters=9')
    finish(start('part', '--cfg-options', 'train_cfg.max_iters=3', processes=2))
    finish(whole)
    expected = [sample for _, batch in notes_of(tmp_path / 'whole.jsonl') for sample in batch]
    part = dict(notes_of(tmp_path / 'part.jsonl'))
    together = [part[iteration, rank][place] for iteration in range(3) for place in range(2)
                for rank in range(2)]
    assert together == expected[:12]
    (tmp_path / 'part.jsonl').unlink()
    log = finish(start('part', '--resume'))
    assert 'an iteration had 2 x 2 samples (processes x batch_size)' in log
    after = [sample for _, batch in notes_of(tmp_path / 'part.jsonl') for sample in batch]
    assert after == expected[12:18]
