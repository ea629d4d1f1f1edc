"""tools/misc/browse_dataset.py on small trees: its files, and what it refuses."""

import json
import re

import cv2
import numpy as np
import pytest

from glus_mm.datasets import MixedRefVOSDataset, MixedVideoSampler
from glus_mm.datasets.moving_shapes import write_split
from programs import ROOT

TOOL = ROOT / 'tools' / 'misc' / 'browse_dataset.py'
CONFIG = ROOT / 'configs' / 'glus' / 'glus_tiny_moving-shapes.py'
ODD = 'vidéo: 1 "x" ' + 'y' * 90
MIX = '''
default_scope = 'glus_mm'
pipeline = [
    dict(type='SampleContextQueryFrames', num_context=2, num_query=3, num_expressions=2),
    dict(type='LoadRefVOSFrames'),
    dict(type='LoadRefVOSMasks'),
    # Of weights that are not there; looking at data must not need them.
    dict(type='BuildConversation', tokenizer='load_from', template='llava_v1'),
    dict(type='ResizeForEncoders', vision_size=224, sam_size=1024),
    dict(type='glus_mm.PackRefVOSInputs')
]
child = dict(type='MovingShapesDataset', data_root='{root}/train', pipeline=pipeline)
train_dataloader = dict(
    sampler=dict(type='MixedVideoSampler', ratios=[1, 3], seed=2),
    dataset=dict(type='MixedRefVOSDataset', datasets=[
        child, dict(child, metainfo=dict(dataset='others'))]))
test_dataloader = dict(
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='MovingShapesDataset', data_root='{root}/valid_u', test_mode=True, pipeline=[
            dict(type='SampleContextQueryFrames', num_context=2, test_mode=True),
            dict(type='OpenFrameReader'),
            dict(type='LoadRefVOSGroundTruth'),
            dict(type='PackRefVOSInputs')]))
'''


def read(path):
    return json.loads(path.read_text())


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    """Two splits of three videos; one to train has an odd name and a long expression."""
    root = tmp_path_factory.mktemp('browse')
    for split in ('train', 'valid_u'):
        write_split(root, 3, seed=5, split=split, mp4=False)
    path = root / 'train' / 'meta_expressions.json'
    content = read(path)
    first = next(iter(content['videos']))
    content['videos'] = {ODD if key == first else key: value
                         for key, value in content['videos'].items()}
    for item in content['videos'][ODD]['expressions'].values():
        item['exp'] = 'the thing that goes on and on and on ' * 9
    path.write_text(json.dumps(content))
    (root / 'train' / 'JPEGImages' / first).rename(root / 'train' / 'JPEGImages' / ODD)
    return root


@pytest.fixture
def config(data, tmp_path):
    path = tmp_path / 'mix.py'
    path.write_text(MIX.format(root=data))
    return path


@pytest.fixture
def call(call_tool, monkeypatch, tmp_path):
    """Run the tool in an empty folder; return what it prints."""
    monkeypatch.chdir(tmp_path)

    def run(*args):
        status, out, error = call_tool(TOOL, *args)
        assert status == 0, error
        return out

    return run


@pytest.fixture
def refuse(refusal, monkeypatch, tmp_path):
    """Run it where it has to refuse; return what it says."""
    monkeypatch.chdir(tmp_path)
    return lambda *args: ' '.join(refusal(TOOL, *args).split())


def colors_in(image, palette):
    """Which of the colours (RGB) an image from cv2 has more than a few pixels of."""
    image = image[..., ::-1].astype(int)
    return [(np.abs(image - color).max(axis=2) <= 3).sum() > 40 for color in palette]


def test_shipped_config(call, data, tmp_path):
    from glus_mm.visualization.local_visualizer import PALETTE
    out = call(CONFIG, '--out', 'sheets', '--num', 2, '--cfg-options',
               f'train_dataloader.dataset.data_root={data}/train')
    files = sorted((tmp_path / 'sheets').iterdir())
    assert len(files) == 2 and '2 samples in sheets: moving_shapes 2' in out
    for path in files:
        image = cv2.imread(str(path))
        assert image.shape[0] > 300 and image.shape[1] > 900
        assert colors_in(image, PALETTE)[:4] == [True] * 4
        assert path.name in out
    shown = ' '.join(call('--help').split())
    assert 'one PNG each' in shown and '--cfg-options' in shown


def test_mix_in_the_order_of_its_sampler(call, config, data, tmp_path):
    out = call(config, '--out', 'sheets', '--num', 6)
    names = sorted(path.name for path in (tmp_path / 'sheets').iterdir())
    child = dict(type='glus_mm.MovingShapesDataset', data_root=f'{data}/train')
    mix = MixedRefVOSDataset([child, dict(child, metainfo=dict(dataset='others'))])
    for number, ((index, _), name) in enumerate(zip(
            MixedVideoSampler(mix, [1, 3], seed=2), names, strict=False)):
        info = mix.get_data_info(index)
        assert name.startswith(f'{number:04d}_{info["dataset"]}_{info["video_id"][:3]}')
    assert re.search(r'6 samples in sheets: others \d, moving_shapes \d', out)
    assert any('vid_o_1_x_yyy' in name for name in names)
    assert all(re.fullmatch(r'[A-Za-z0-9._-]{1,100}', name) for name in names)


def test_split_to_test(call, config, data, tmp_path):
    call(config, '--split', 'test', '--num', 9)
    folder = tmp_path / 'work_dirs' / 'mix' / 'browse_test'
    videos = read(data / 'valid_u' / 'meta_expressions.json')['videos']
    expected = []
    for number, (video_id, video) in enumerate(videos.items()):
        parts = -(-len(video['expressions']) // 8)
        expected += [f'{number:04d}_moving_shapes_{video_id}'
                     + (f'_{part}.png' if parts > 1 else '.png') for part in range(parts)]
    assert sorted(path.name for path in folder.iterdir()) == sorted(expected)
    assert any(name.endswith('_1.png') for name in expected), 'nothing to divide'
    out = call(config, '--split', 'test', '--num', 1, '--out', 'sheets', '--cfg-options',
               'test_dataloader.dataset.data_prefix.mask=none.json')
    assert '1 samples in sheets' in out and list((tmp_path / 'sheets').iterdir())


def test_refusals(refuse, config, data, tmp_path):
    assert 'expected a config file, got nothing there: no.py' in refuse('no.py')
    assert '--num must be at least 1, got 0' in refuse(config, '--num', 0)
    assert 'has no val_dataloader' in refuse(config, '--split', 'val')
    assert "has no 'trian'" in refuse(config, '--cfg-options', 'trian.x=1')
    assert 'a_typo' in refuse(config, '--split', 'test', '--cfg-options',
                              'test_dataloader.dataset.a_typo=1')
    message = refuse(config, '--cfg-options',
                     'train_dataloader.dataset.datasets.1.data_root=/no/where')
    assert 'datasets[1] (MovingShapesDataset)' in message and '/no/where' in message
    (tmp_path / 'file').write_text('')
    assert 'expected an output folder, got a file' in refuse(config, '--out', 'file/sub')
    assert "MovingShapes is not in the" in refuse(
        config, '--split', 'test', '--cfg-options', 'test_dataloader.dataset.type=MovingShapes')
    for path in sorted((data / 'valid_u' / 'JPEGImages').iterdir())[:1]:
        frame = sorted(path.iterdir())[0]
        content = frame.read_bytes()
        frame.write_bytes(b'no image')
        try:
            message = refuse(config, '--split', 'test')
        finally:
            frame.write_bytes(content)
        assert str(frame) in message and 'cannot be decoded' in message
