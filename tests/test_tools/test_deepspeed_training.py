"""DeepSpeed on two processes of a CPU trains as DDP does, and writes the same checkpoints."""

import importlib.util
import json

import pytest
import torch
from mmengine import Config
from mmengine.registry import DefaultScope

import programs
from glus_mm.datasets.moving_shapes import write_split
from glus_mm.registry import MODELS
from programs import ROOT

CONFIG = '''
_base_ = [
    '{root}/configs/_base_/models/glus_tiny.py',
    '{root}/configs/_base_/datasets/moving_shapes.py',
    '{root}/configs/_base_/schedules/adamw.py', '{root}/configs/_base_/default_runtime.py'
]
model = dict(
    loss_contrastive=dict(type='ObjectContrastiveLoss', loss_weight=0.1, num_negatives=4),
    mllm=dict(
        vision_tower=dict(hidden_size=16, num_hidden_layers=1),
        llm=dict(hidden_size=32, num_hidden_layers=1)),
    mask_head=dict(image_size=64, sam2=dict(d_model=32)))
_base_.train_pipeline[0].update(num_context=2, num_query=2)
_base_.train_pipeline[3].update(sam_size=64)
train_dataloader = dict(
    batch_size=1, num_workers=0, persistent_workers=False,
    dataset=dict(data_root='{data}/train', min_frames=4, pipeline=_base_.train_pipeline))
test_dataloader = dict(dataset=dict(data_root='{data}/train'))
train_cfg = dict(type='IterBasedTrainLoop', max_iters=4)
optim_wrapper = dict(accumulative_counts=2)
param_scheduler = [dict(type='LinearLR', start_factor=0.1, end=4, by_epoch=False)]
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval=2, max_keep_ckpts=-1))
log_processor = dict(window_size=1)
'''
ZERO = '''
_base_ = ['./ddp.py']
runner_type = 'FlexibleRunner'
strategy = dict(type='glus_mm.SafeDeepSpeedStrategy', zero_optimization=dict(stage={stage}))
optim_wrapper = dict(type='ZeroOptimWrapper')
'''
# A group for each parameter.
GROUPS = '''
_base_ = ['./{base}.py']
optim_wrapper = dict(paramwise_cfg=dict(custom_keys={{'mask_head': dict(lr_mult=0.2)}}))
'''
# In bfloat16 but for what is trained.
LORA = '''
_base_ = ['./{base}.py']
model = dict(
    dtype='bfloat16',
    mllm=dict(
        lora=dict(r=4, alpha=8, dropout=0.0), gradient_checkpointing=True,
        trainable=['llm.*.lora_*', 'llm.embed_tokens.*', 'lm_head.*', 'projector.*',
                   'seg_projector.*']),
    mask_head=dict(trainable=['sam2.sam_mask_decoder.[!c]*']))
'''
# With talk, which one of the two processes has alone in some iterations, and both in others; with
# frames and clicks that are decoded in one of them only.
TALK = '''
_base_ = ['./{base}.py']
model = dict(existence='answer', train_cfg=dict(click_prob=0.5))
talk_pipeline = [
    dict(type='BuildTalk', tokenizer='tiny', template='compact', num_context=2, num_pairs=3),
    dict(type='LoadRefVOSFrames', same_size=False), *_base_.train_pipeline[3:4],
    *_base_.train_pipeline[5:]
]
train_dataloader = dict(
    sampler=dict(_delete_=True, type='MixedVideoSampler', ratios=[1, 1]),
    dataset=dict(_delete_=True, type='MixedRefVOSDataset', datasets=[
        dict(_base_.train_dataloader.dataset),
        dict(type='ConversationDataset', data_root='{data}/train', ann_file='talk.json',
             pipeline=talk_pipeline)]))
train_cfg = dict(max_iters=8)
default_hooks = dict(checkpoint=dict(interval=8))
'''
# Several trainings in the same processes: most of the time of each goes into imports.
SCRIPT = '''
import json
import runpy
import sys

import deepspeed

# A faster all-reduce within one machine, which would be compiled here for a minute.
deepspeed.ops.__compatible_ops__['deepspeed_shm_comm'] = False
status = None
for args in json.loads(sys.argv[1]):
    sys.argv = ['train.py', *args]
    try:
        runpy.run_path('{train}', run_name='__main__')
    except SystemExit as end:
        status = end.code
sys.exit(status)
'''
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec('deepspeed') is None,
                       reason='needs DeepSpeed: pip install glus_mm[deepspeed]')]


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Trainings from the same weights, with each engine, and one that changes the engine."""
    folder = tmp_path_factory.mktemp('engines')
    write_split(folder, 6, seed=5, split='train', mp4=False, talk=6)
    (folder / 'ddp.py').write_text(CONFIG.format(root=ROOT, data=folder))
    (folder / 'lora.py').write_text(LORA.format(base='ddp'))
    for stage in (2, 3):
        (folder / f'zero{stage}.py').write_text(ZERO.format(stage=stage))
    (folder / 'lora_zero2.py').write_text(LORA.format(base='zero2'))
    (folder / 'groups.py').write_text(GROUPS.format(base='ddp'))
    (folder / 'groups_zero2.py').write_text(GROUPS.format(base='zero2'))
    for name, base in (('talk', 'ddp'), ('talk_zero2', 'zero2'), ('talk_zero3', 'zero3')):
        (folder / f'{name}.py').write_text(TALK.format(base=base, data=folder))
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('glus_mm'):
        model = MODELS.build(Config.fromfile(folder / 'ddp.py').model)
    torch.save(dict(state_dict=model.state_dict()), folder / 'start.pth')
    (folder / 'script.py').write_text(SCRIPT.format(train=ROOT / 'tools' / 'train.py'))
    options = ['--launcher', 'pytorch', '--cfg-options', 'load_from=start.pth']
    jobs = [[f'{name}.py', '--work-dir', name, *options, f'visualizer.name={name}']
            for name in ('ddp', 'zero2', 'zero3', 'groups', 'groups_zero2', 'talk', 'talk_zero2')]
    jobs += [[f'{name}.py', '--work-dir', name, *options, f'visualizer.name={name}',
              'train_cfg.max_iters=2', 'default_hooks.checkpoint.leave_out_frozen=True']
             for name in ('lora', 'lora_zero2')]
    # From the seed alone; with a rate of 0 the weights stay those of the start.
    jobs += [[f'{name}.py', '--work-dir', f'{name}_seed', '--launcher', 'pytorch', '--cfg-options',
              f'visualizer.name={name}_seed', 'optim_wrapper.optimizer.lr=0.0',
              'train_cfg.max_iters=2'] for name in ('ddp', 'zero2')]
    jobs.append(['zero3.py', '--work-dir', 'resumed', '--resume', 'ddp/iter_2.pth',
                 '--launcher', 'pytorch', '--cfg-options', 'visualizer.name=resumed'])
    run(folder, 'script.py', json.dumps(jobs), processes=2)
    return folder


def run(folder, *args, **options):
    done = programs.run(*args, cwd=folder, timeout=1200, **options)
    assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]
    return done.stdout + done.stderr


def losses(folder, name):
    """Every value that is computed, of each iteration."""
    lines = [json.loads(line) for file in (folder / name).glob('*/vis_data/scalars.json')
             for line in file.read_text().splitlines()]
    keys = ('loss_ce', 'loss_mask_bce', 'loss_mask_dice', 'loss_contrastive', 'grad_norm', 'lr',
            'token_bank_size')
    return {line['step']: {key: line[key] for key in keys if key in line} for line in lines}


def load(path):
    return torch.load(path, weights_only=True)


def test_the_same_seed_gives_the_same_weights(folder):
    ddp, zero = (load(folder / f'{name}_seed' / 'iter_2.pth')['state_dict']
                 for name in ('ddp', 'zero2'))
    assert list(ddp) == list(zero)
    assert all(torch.equal(value, zero[key]) for key, value in ddp.items())
    start = load(folder / 'start.pth')['state_dict']
    assert not torch.equal(ddp['mllm.projector.weight'], torch.zeros_like(
        start['mllm.projector.weight']))


@pytest.mark.parametrize('base, name', [
    ('ddp', 'zero2'), ('ddp', 'zero3'), ('groups', 'groups_zero2')])
def test_equals_ddp(folder, base, name):
    expected, got = losses(folder, base), losses(folder, name)
    assert list(got) == list(expected) == list(range(1, 5))
    for step in expected:
        assert got[step] == pytest.approx(expected[step], abs=1e-5, rel=1e-5), step
    assert 'grad_norm' in got[2] and got[4]['loss_contrastive'] > 0
    for step in (2, 4):
        ddp, own = (load(folder / run_name / f'iter_{step}.pth') for run_name in (base, name))
        assert ddp.keys() == own.keys()
        assert list(ddp['state_dict']) == list(own['state_dict'])
        for key, value in ddp['state_dict'].items():
            torch.testing.assert_close(own['state_dict'][key], value, rtol=0, atol=1e-5, msg=key)
        assert own['optimizer']['param_groups'] == ddp['optimizer']['param_groups']
        for index, state in ddp['optimizer']['state'].items():
            for key, value in state.items():
                torch.testing.assert_close(own['optimizer']['state'][index][key], value,
                                           rtol=0, atol=1e-5)


def test_talk_in_some_processes_equals_ddp(folder):
    expected, got = losses(folder, 'talk'), losses(folder, 'talk_zero2')
    assert list(got) == list(expected) == list(range(1, 9))
    for step in expected:
        assert got[step] == pytest.approx(expected[step], abs=1e-5, rel=1e-5), step
    ddp, own = (load(folder / name / 'iter_8.pth')['state_dict'] for name in ('talk', 'talk_zero2'))
    for key, value in ddp.items():
        torch.testing.assert_close(own[key], value, rtol=0, atol=5e-5, msg=key)


def test_zero3_refuses_what_lets_processes_wait_for_one_another(folder):
    """Settings before the training starts, and talk in one process when it comes."""
    options = ['--launcher', 'pytorch', '--cfg-options', 'load_from=start.pth']
    jobs = [['talk_zero3.py', '--work-dir', name, *options, f'visualizer.name={name}', *more]
            for name, more in (('settings', ()), ('alone', (
                'model.existence=mask', 'model.train_cfg.click_prob=0.0')))]
    done = programs.run('script.py', json.dumps(jobs), cwd=folder, processes=2)
    assert done.returncode != 0
    errors = [line for line in done.stderr.splitlines() if line.startswith('train.py: error: ')]
    assert len(errors) == 2, done.stderr[-4000:]
    assert "ZeRO-3 on several processes does not train with model.existence='answer' and " \
        'model.train_cfg.click_prob: ' in errors[0]
    assert 'ZeRO-3 cannot train on a batch that is all talk in one process' in errors[1]


def test_goes_on_and_mixed_types(folder):
    expected, got = losses(folder, 'ddp'), losses(folder, 'resumed')
    assert list(got) == [3, 4]
    for step in got:
        assert got[step] == pytest.approx(expected[step], abs=1e-5, rel=1e-5), step
    expected, got = losses(folder, 'lora'), losses(folder, 'lora_zero2')
    for step in expected:  # to what bfloat16 gives
        assert got[step] == pytest.approx(expected[step], abs=1e-3, rel=1e-3), step
    ddp, own = (load(folder / name / 'iter_2.pth') for name in ('lora', 'lora_zero2'))
    assert list(own['state_dict']) == list(ddp['state_dict'])
    assert {value.dtype for key, value in own['state_dict'].items() if 'lora_' in key} == {
        torch.float32}
    assert own['base'].keys() == ddp['base'].keys()
    assert not any('vision_tower' in key for key in own['state_dict'])


def test_the_checkpoint_is_tested_without_deepspeed(folder):
    log = run(folder, str(ROOT / 'tools' / 'test.py'), 'zero3.py', 'zero3/iter_4.pth',
              '--cfg-options', 'test_dataloader.dataset.indices=1', '--dump', 'figures.json')
    assert 'J&F' in log and (folder / 'figures.json').is_file()
    done = programs.run(ROOT / 'tools' / 'train.py', 'zero2.py', '--work-dir', 'alone', cwd=folder)
    assert done.returncode != 0
    assert 'DeepSpeed needs processes that a launcher started' in done.stderr
