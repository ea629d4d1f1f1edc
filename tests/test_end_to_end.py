"""tools/train.py and tools/test.py with the shipped config, made small by options, on 3 videos."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import programs
from glus_mm.apis import init_model
from glus_mm.datasets.moving_shapes import write_split
from glus_mm.models.inference import open_reader
from glus_mm.structures import RefVOSDataSample
from programs import ROOT

CONFIG = ROOT / 'configs' / 'glus' / 'glus_tiny_moving-shapes.py'
NUM_VIDEOS = 3
SMALL = {
    'model.mllm.vision_tower.hidden_size': 16,
    'model.mllm.vision_tower.num_hidden_layers': 1,
    'model.mllm.llm.hidden_size': 32,
    'model.mllm.llm.num_hidden_layers': 1,
    'model.mask_head.image_size': 64,
    'model.mask_head.sam2.d_model': 32,
    'train_dataloader.dataset.pipeline.3.sam_size': 64,
}


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    """The two splits, 3 videos each."""
    root = tmp_path_factory.mktemp('moving_shapes')
    for split in ('train', 'valid_u'):
        write_split(root, NUM_VIDEOS, seed=5, split=split, mp4=False)
    return root


@pytest.fixture(scope='module')
def options(data):
    """``--cfg-options`` and their values."""
    values = dict(SMALL, **{
        # Random weights are never that sure.
        'model.test_cfg.seg_threshold': None,
        'train_dataloader.dataset.data_root': data / 'train',
        'test_dataloader.dataset.data_root': data / 'valid_u',
    })
    return ['--cfg-options', *(f'{key}={value}' for key, value in values.items())]


@pytest.fixture(scope='module')
def talking(tmp_path_factory, data, options):
    """A checkpoint with random weights that says [SEG] on about half of the frames."""
    torch.manual_seed(0)
    small = dict(option.split('=') for option in options[1:])
    small = {key: None if value == 'None' else int(value)
             for key, value in small.items() if key.startswith('model.')}
    model = init_model(CONFIG, cfg_options=small)
    states = []
    model.mllm.lm_head.register_forward_pre_hook(lambda _, args: states.append(args[0]))
    videos = json.loads((data / 'valid_u' / 'meta_expressions.json').read_text())['videos']
    for video_id, video in videos.items():
        texts = tuple(item['exp'] for item in video['expressions'].values())
        sample = RefVOSDataSample(metainfo=dict(expressions=texts, exp_ids=texts))
        reader = open_reader(data / 'valid_u' / 'JPEGImages' / video_id)
        for _ in model.segment(model.init_session(reader, sample)):
            pass
    states = torch.cat(states)
    mean = states.mean(0)
    row = torch.randn(len(mean))
    row -= (row @ mean) / (mean @ mean) * mean
    with torch.no_grad():
        model.mllm.lm_head.weight.zero_()
        model.mllm.lm_head.weight[model.mllm.tokenizer.seg_id] = row
    path = tmp_path_factory.mktemp('checkpoint') / 'talking.pth'
    torch.save(dict(state_dict=model.state_dict(), meta={}), path)
    return path


def test_train(run_tool, options, tmp_path):
    run_tool('train', CONFIG, '--work-dir', 'run', *options, 'load_from=None',
             'train_cfg.max_iters=3', 'train_dataloader.num_workers=0',
             'train_dataloader.persistent_workers=False', 'train_dataloader.batch_size=2',
             'default_hooks.logger.interval=1')
    checkpoint = torch.load(tmp_path / 'run' / 'iter_3.pth', weights_only=True)
    weights = checkpoint['state_dict']
    assert checkpoint['meta']['iter'] == 3
    assert all(value.isfinite().all() for value in weights.values())
    log, = (tmp_path / 'run').rglob('scalars.json')
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    assert [entry['step'] for entry in entries] == [1, 2, 3]
    for entry in entries:
        parts = [entry[f'loss_{name}'] for name in ('ce', 'mask_bce', 'mask_dice', 'iou')]
        assert entry['loss'] == pytest.approx(sum(parts), rel=1e-4) and min(parts) > 0
    # What was saved is a whole model: it is tested, and all it lacks is training.
    run_tool('test', CONFIG, tmp_path / 'run' / 'iter_3.pth', '--work-dir', 'test', '--dump',
             'figures.json', *options)
    assert json.loads((tmp_path / 'figures.json').read_text())


def dist_test(tmp_path, *args):
    """tools/dist_test.sh with two processes."""
    done = subprocess.run(['bash', ROOT / 'tools' / 'dist_test.sh', *map(str, args)],
                          env=programs.environment(PORT=str(programs.free_port())),
                          cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-4000:]


@pytest.mark.slow
def test_one_and_two_processes(run_tool, data, talking, options, tmp_path):
    run_tool('test', CONFIG, talking, '--work-dir', 'one', '--out', 'masks', '--dump', 'one.json',
             *options)
    # Nothing is trained in models of the published size, which changes no figure.
    dist_test(tmp_path, CONFIG, talking, 2, '--work-dir', 'two', '--out', 'masks2', '--dump',
              'two.json', *options, 'model.mllm.trainable=[]', 'model.mask_head.trainable=[]')
    one, two = (json.loads((tmp_path / name).read_text()) for name in ('one.json', 'two.json'))
    assert one == two
    check_figures(one)
    check_masks(tmp_path, data)


def check_figures(content):
    """The JSON holds percentages, over all and for every kind."""
    assert {'dataset', 'per_kind', 'per_expression', 'per_frame'} <= set(content)
    assert content['per_kind'] and content['per_expression']
    figures = content['dataset']
    assert 0 < figures['J&F'] < 100
    assert figures['J&F'] == pytest.approx((figures['J'] + figures['F']) / 2)
    assert figures['frames_without_seg'] > 0


def check_masks(tmp_path, data):
    """One PNG per video, expression and frame, from both runs and equal; some not empty."""
    videos = json.loads((data / 'valid_u' / 'meta_expressions.json').read_text())['videos']
    assert len(videos) == NUM_VIDEOS
    expected = {Path(video_id, exp_id, f'{frame}.png')
                for video_id, video in videos.items() for exp_id in video['expressions']
                for frame in video['frames']}
    files = {path.relative_to(tmp_path / 'masks') for path in (tmp_path / 'masks').rglob('*.png')}
    assert files == expected
    filled = 0
    for file in files:
        with Image.open(tmp_path / 'masks' / file) as image:
            mask = np.asarray(image)
            assert image.mode == 'L' and set(np.unique(mask)) <= {0, 255}
        video = videos[file.parts[0]]
        assert mask.shape == (video['height'], video['width'])
        filled += bool(mask.any())
        assert (tmp_path / 'masks2' / file).read_bytes() == (tmp_path / 'masks' / file).read_bytes()
    assert 0 < filled < len(files)
