"""A small training with validation: its log, its best checkpoint, and what the tools make of it."""

import json
import re
import subprocess

import pytest
import torch
from mmengine import Config
from mmengine.registry import DefaultScope

import programs
from glus_mm.datasets.moving_shapes import write_split
from programs import ROOT

PARTS = '''
import os

from mmcv.transforms import BaseTransform

from glus_mm.registry import TRANSFORMS


@TRANSFORMS.register_module()
class SpoilVideo(BaseTransform):
    """Put NaN into the images of one video."""

    def transform(self, results):
        if results['video_id'] == os.environ.get('SPOILT'):
            results['sam_imgs'][0, 0, 3, 3] = float('nan')
        return results
'''
CONFIG = '''
_base_ = ['{root}/configs/glus/glus_tiny_moving-shapes_val.py']
custom_imports = dict(imports=['spoil_video'])
load_from = '{root}/checkpoints/glus_tiny_moving-shapes.pth'
model = dict(loss_contrastive=dict(
    type='ObjectContrastiveLoss', num_negatives=50, bank=dict(size=60), min_tokens=1))
_base_.train_pipeline.insert(4, dict(type='SpoilVideo'))
train_dataloader = dict(
    batch_size=1,
    dataset=dict(data_root='{data}/train', pipeline=_base_.train_pipeline))
val_dataloader = dict(dataset=dict(data_root='{data}/valid_u', indices=2))
train_cfg = dict(max_iters=6, val_interval=3)
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval=4))
'''
pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Data and a config; trainings go into its subfolders."""
    folder = tmp_path_factory.mktemp('logs')
    for split, seed in (('train', 5), ('valid_u', 6)):
        write_split(folder, 4, seed=seed, split=split, mp4=False)
    (folder / 'spoil_video.py').write_text(PARTS)
    (folder / 'config.py').write_text(CONFIG.format(root=ROOT, data=folder))
    return folder


def call(folder, tool, *args, spoilt='', code=0, processes=1):
    done = programs.run(ROOT / 'tools' / tool, 'config.py', *args, cwd=folder,
                        env=dict(SPOILT=spoilt), processes=processes, stderr=subprocess.STDOUT)
    assert (done.returncode == 0) == (code == 0), done.stdout[-4000:]
    return done.stdout


@pytest.fixture(scope='module')
def run(folder):
    """Work dir of a training with two processes, and what it printed."""
    text = call(folder, 'train.py', '--work-dir', 'run', processes=2)
    return folder / 'run', text


def entries_of(work_dir):
    log, = work_dir.glob('*/vis_data/scalars.json')
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    return ([entry for entry in entries if 'iter' in entry],
            [entry for entry in entries if 'iter' not in entry])


def test_everything_is_logged(run):
    work_dir, text = run
    training, validation = entries_of(work_dir)
    assert [entry['iter'] for entry in training] == [1, 2, 3, 4, 5, 6]
    names = {'loss', 'loss_ce', 'loss_mask_bce', 'loss_mask_dice', 'loss_contrastive', 'grad_norm',
             'lr', 'base_lr', 'time', 'data_time', 'memory', 'token_bank_size'}
    for entry in training:
        assert names <= set(entry) and all(entry[name] >= 0 for name in names)
        assert all(re.search(rf'\b{name}: ', text) for name in names)
    assert [entry['step'] for entry in validation] == [3, 6]
    assert all({'J', 'F', 'J&F', 'motion/J&F'} <= set(entry) for entry in validation)
    sizes = [entry['token_bank_size'] for entry in training]
    assert sizes == sorted(sizes) and sizes[-1] == 60
    # In the first iteration nothing has enough negatives; later on something counts.
    training, _ = entries_of(run[0])
    losses = [entry['loss_contrastive'] for entry in training]
    assert losses[0] == 0.0 and losses[-1] > 0.0
    first = training[0]
    parts = sum(first[name] for name in ('loss_ce', 'loss_mask_bce', 'loss_mask_dice', 'loss_iou'))
    assert first['loss'] == pytest.approx(parts, rel=1e-5)


def test_the_best_is_kept(run, folder):
    work_dir, text = run
    _, validation = entries_of(work_dir)
    scores = [entry['J&F'] for entry in validation]
    assert min(scores) > 0 and scores[0] != scores[1]
    step = 3 if scores[0] >= scores[1] else 6
    best, = work_dir.glob('best_*')
    assert best.name == f'best_J&F_iter_{step}.pth'
    assert f'The best checkpoint with {max(scores):.4f} J&F at {step} iter' in text
    checkpoint = torch.load(best, weights_only=True)
    assert 'optimizer' not in checkpoint
    text = call(folder, 'test.py', best, '--work-dir', 'test', '--dump', 'figures.json',
                '--cfg-options', f'test_dataloader.dataset.data_root={folder}/valid_u',
                'test_dataloader.dataset.indices=2')
    figures = json.loads((folder / 'figures.json').read_text())['dataset']
    assert 100 * figures['J&F'] == pytest.approx(max(scores), abs=1e-9), text[-2000:]


def test_the_log_is_drawn(run, tmp_path, capsys):
    tool = programs.load(ROOT / 'tools/analysis_tools/analyze_logs.py')
    tool.main([str(run[0]), '--out', str(tmp_path / 'curve.png')])
    keys = [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:-1]]
    assert keys == ['loss', 'loss_ce', 'loss_mask_bce', 'loss_mask_dice', 'loss_iou',
                    'loss_contrastive', 'J&F', 'grad_norm', 'lr']
    assert (tmp_path / 'curve.png').stat().st_size > 10_000


def test_positives_are_counted_as_in_training(run, folder, monkeypatch):
    """``count_positives.py`` has, for both processes, the tallies of their losses."""
    monkeypatch.syspath_prepend(str(folder))
    saved = torch.load(run[0] / 'iter_6.pth', weights_only=True)['token_bank']['ranks']
    tool = programs.load(ROOT / 'dev/count_positives.py')
    with DefaultScope.overwrite_default_scope('glus_mm'):
        counts = tool.count(Config.fromfile(folder / 'config.py'), batches=6, processes=2)
    assert len(saved) == len(counts) == 2
    for state, own in zip(saved, counts):
        assert int(state['calls']) == own.tally['calls'] == own.batches['all'] == 6
        names = ('with_positives', 'with_negatives', 'tokens')
        assert state['tally'].tolist() == [own.tally[name] for name in names]
    assert all(state['tally'][0] > 0 for state in saved)


def test_a_spoilt_video_stops_the_training(folder):
    """It is named; without it the training is done."""
    train = ('train.py', '--work-dir', 'spoilt')
    plain = ('--cfg-options', 'val_cfg=None', 'val_dataloader=None', 'val_evaluator=None',
             'default_hooks.checkpoint.save_best=None')
    with DefaultScope.overwrite_default_scope('glus_mm'):
        ids = sorted(path.name for path in (folder / 'train' / 'JPEGImages').iterdir())
    text = call(folder, *train, *plain, spoilt=ids[0], code=1)
    message = text[text.index('the loss is not finite'):]
    found = re.search(r'the loss is not finite in iteration (\d+)\n', message)
    assert found and f"moving_shapes, video '{ids[0]}'" in message
    assert 'loss nan, loss_ce' in message and 'expressions: ' in message
    assert int(found[1]) <= 4, 'four videos are seen in four iterations'
    call(folder, *train, '--resume', *plain)
    assert torch.load(folder / 'spoilt' / 'iter_6.pth', weights_only=True)['meta']['iter'] == 6
