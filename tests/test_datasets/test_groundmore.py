"""GroundMoRe: 20 frames of a clip, and a target for the span of time of the action."""

import json

import cv2
import numpy as np
import pytest
from dataset_layouts import test_pipeline as pipeline_for_testing
from mmengine import Config
from PIL import Image

from glus_mm.datasets import GroundMoReDataset
from glus_mm.registry import DATASETS, METRICS, build_child
from glus_mm.utils.masks import decode_rle
from programs import ROOT

VIDEO, SHAPE, LENGTH = 'dQw4w9WgXcQ_0102_0107', (24, 40), 30
# Frames without a mask file.
BLANK = (7, 17)


def object_mask(which, frame):
    mask = np.zeros(SHAPE, dtype=bool)
    mask[8 * which:8 * which + 6, frame // 2:frame // 2 + 9] = True
    return mask


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / 'data/groundmore/annotations' / VIDEO
    for name in ('images', 'masks'):
        (folder / name).mkdir(parents=True)
    for t in range(LENGTH):
        cv2.imwrite(str(folder / 'images' / f'frame_{t:06d}.jpg'),
                    np.full((*SHAPE, 3), 8 * t, np.uint8))
        if t not in BLANK:
            labels = 1 * object_mask(1, t) + 2 * object_mask(2, t)
            Image.fromarray(labels.astype(np.uint8)).save(
                folder / 'masks' / f'frame_{t:06d}.png')
    questions = {
        '0': {'question': 'Who falls?', 'answer': 'he', 'obj_id': '1', 'q_type': 'Causal',
              'action_start': '1:03', 'action_end': '0:01:05'},
        '1': {'question': 'Who stands?', 'answer': 'they', 'obj_id': '1, 2',
              'q_type': 'Descriptive', 'action_start': '1:02', 'action_end': '1:07'}}
    (tmp_path / 'data/groundmore/test_v2.json').write_text(json.dumps(
        {'videos': {VIDEO: {'questions': questions}}}))
    return tmp_path / 'data/groundmore'


def test_samples(root):
    dataset = GroundMoReDataset(data_root=str(root), test_mode=True, serialize_data=False,
                                pipeline=pipeline_for_testing())
    item = dataset[0]
    sample, reader = item['data_samples'], item['inputs']['reader']
    numbers = np.linspace(0, LENGTH - 1, 20, dtype=int).tolist()
    assert sample.frame_names == tuple(f'frame_{n:06d}' for n in numbers)
    assert sample.exp_ids == ('0', '1') and sample.object_ids == (('1', ), ('1', '2'))
    assert sample.expressions[0] == 'Who falls?'
    assert dataset.get_data_info(0)['expressions'][1]['kind'] == 'Descriptive'
    for t, number in enumerate(numbers):
        assert abs(float(reader.read(t).mean()) - 8 * number) < 1.5
        found = [decode_rle(track[t]) for track in sample.gt_rles]
        there = number not in BLANK
        # 6 frames a second, counted from 1:02; the action of the first ends at 1:05.
        assert np.array_equal(found[0], object_mask(1, number) & (there and 6 <= number <= 17))
        assert np.array_equal(found[1], (object_mask(1, number) | object_mask(2, number)) & there)


def test_clips_and_the_config(root, monkeypatch):
    folder = root / 'annotations' / VIDEO
    for t in range(5, LENGTH):
        (folder / 'images' / f'frame_{t:06d}.jpg').unlink()
    dataset = GroundMoReDataset(data_root=str(root), test_mode=True, serialize_data=False)
    assert len(dataset.get_data_info(0)['frame_names']) == 5
    with pytest.raises(ValueError, match='expected test_mode=True'):
        GroundMoReDataset(data_root=str(root))
    monkeypatch.chdir(root.parents[1])
    cfg = Config.fromfile(ROOT / 'configs/_base_/datasets/groundmore.py')
    part = dict(cfg.test_dataloader.dataset.to_dict(), pipeline=[], serialize_data=False)
    assert len(build_child(DATASETS, part)) == 1
    assert build_child(METRICS, cfg.test_evaluator.to_dict()).protocol.name == 'groundmore'


@pytest.mark.parametrize('key, value, message', [
    ('obj_id', None, 'obj_id'), ('obj_id', '0', 'obj_id'), ('obj_id', '1, x', 'obj_id'),
    ('obj_id', 300, 'obj_id'), ('obj_id', [], 'obj_id'), ('question', '', 'question'),
    ('question', 7, 'question'), ('q_type', None, 'q_type'), ('q_type', 3, 'q_type'),
    ('action_start', '1:2:3:4', 'expected a time'), ('action_end', 'soon', 'expected a time'),
    ('action_end', 5, 'action_end')])
def test_broken_questions(root, key, value, message):
    path = root / 'test_v2.json'
    content = json.loads(path.read_text())
    question = content['videos'][VIDEO]['questions']['0']
    question[key] = value
    if value is None:
        del question[key]
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=rf"test_v2\.json: video '{VIDEO}'.*'0'.*{message}"):
        GroundMoReDataset(data_root=str(root), test_mode=True)


@pytest.mark.parametrize('spoil, error, message', [
    (lambda clip: (clip / 'images/frame_000004.jpg').unlink(), ValueError, "no 'frame_000004'"),
    (lambda clip: (clip / 'images').rename(clip / 'gone'), FileNotFoundError,
     'expected the frames'),
    (lambda clip: (clip / 'masks/frame_000000.png').write_bytes(b'\x89PNG'), ValueError,
     r'frame_000000\.png'),
    (lambda clip: Image.new('RGB', SHAPE[::-1]).save(clip / 'masks/frame_000000.png'), ValueError,
     r'frame_000000\.png'),
    (lambda clip: Image.new('L', (8, 8), 1).save(clip / 'masks/frame_000000.png'), ValueError,
     'expected a mask of the size of the frame'),
])
def test_broken_clips(root, spoil, error, message):
    spoil(root / 'annotations' / VIDEO)
    with pytest.raises(error, match=message):
        GroundMoReDataset(data_root=str(root), test_mode=True,
                          pipeline=pipeline_for_testing())[0]


def test_a_video_without_its_span(root):
    (root / 'annotations' / VIDEO).rename(root / 'annotations/clip')
    path = root / 'test_v2.json'
    path.write_text(path.read_text().replace(VIDEO, 'clip'))
    with pytest.raises(ValueError, match='end with the span of time.*got .clip.'):
        GroundMoReDataset(data_root=str(root), test_mode=True)
