"""MOSEv2: a propagator starts from the true mask of the frame on which an object is first seen."""

import json

import cv2
import numpy as np
import pytest
import torch
from mmengine import Config
from PIL import Image

from glus_mm.apis import init_model
from glus_mm.apis.mask_evaluation import evaluate_masks
from glus_mm.datasets import MOSEDataset
from glus_mm.registry import DATASETS, METRICS, build_child
from glus_mm.utils.masks import decode_rle
from programs import ROOT

LENGTH, SIZE = 6, (64, 64)
FIRST = {1: 0, 3: 2}


def object_mask(number, t):
    """Object 1 goes right; object 3 comes on the third frame and stands still."""
    mask = np.zeros(SIZE, bool)
    if t >= FIRST[number]:
        left = 6 + 4 * t if number == 1 else 34
        mask[10 * number:10 * number + 16, left:left + 16] = True
    return mask


@pytest.fixture
def root(tmp_path):
    root = tmp_path / 'mose'
    for folder in ('JPEGImages', 'Annotations'):
        (root / folder / 'clip').mkdir(parents=True)
    for t in range(LENGTH):
        labels = np.zeros(SIZE, np.uint8)
        for number in FIRST:
            labels[object_mask(number, t)] = number
        image = np.full((*SIZE, 3), 40, np.uint8)
        image[labels == 1], image[labels == 3] = (30, 30, 220), (220, 60, 30)
        cv2.imwrite(str(root / f'JPEGImages/clip/{t:05d}.jpg'), image)
        png = Image.fromarray(labels, 'P')
        png.putpalette([0, 0, 0, 200, 0, 0, 0, 200, 0, 0, 0, 200])
        png.save(root / f'Annotations/clip/{t:05d}.png')
    # A video of the list that has no folder is not scored.
    write_list(root, clip=dict(objects=['1', '3'], length=LENGTH),
               other=dict(objects=['1'], length=9))
    return root


def write_list(root, **videos):
    (root / 'meta.json').write_text(json.dumps({'videos': videos}))


def config(root):
    return Config.fromfile(ROOT / 'configs/_base_/datasets/mose-v2.py'), dict(
        data_root=str(root), test_mode=True)


def predictions(root, propagator):
    cfg, options = config(root)
    dataset = build_child(DATASETS, dict(cfg.test_dataloader.dataset.to_dict(), **options))
    model = init_model(
        ROOT / 'configs/glus/glus_tiny_moving-shapes.py',
        ROOT / 'checkpoints/glus_tiny_moving-shapes.pth', device='cpu',
        cfg_options={'model.test_cfg.propagator': propagator})
    item = dataset[0]
    inputs = dict(reader=[item['inputs']['reader']])
    with torch.no_grad():
        return model.predict(inputs, [item['data_samples']])[0]


def test_tracked_from_the_given_masks(root, tmp_path):
    sample = predictions(root, dict(
        type='SAM2Propagator', dynamic_multimask=False, use_pointers=False,
        use_object_scores=False))
    assert sample.exp_ids == ('1', '3') and sample.key_frame_ids == [0, 2]
    for number, rles in zip(FIRST, sample.pred_masks):
        masks = [decode_rle(rle) for rle in rles]
        assert not any(mask.any() for mask in masks[:FIRST[number]]), 'not there yet'
        assert np.array_equal(masks[FIRST[number]], object_mask(number, FIRST[number]))
    # What test.py reports is what eval_masks.py says of the label maps that it writes.
    cfg, _ = config(root)
    metric = build_child(METRICS, dict(
        cfg.test_evaluator.to_dict(), ann_root=str(root), output_dir=str(tmp_path / 'out'),
        dump_file=str(tmp_path / 'out.json')))
    metric.process({}, [sample])
    figures = metric.evaluate(1)
    files = evaluate_masks('mose-v2', root, tmp_path / 'out').document()
    dumped = json.loads((tmp_path / 'out.json').read_text())
    assert dumped['per_object'] == files['per_object'] and set(files['per_object']) == {
        'clip_1', 'clip_3'}
    assert figures['J&F-dot'] == pytest.approx(100 * files['dataset']['J&F-dot'], abs=1e-9)
    assert figures['objects'] == 2


def test_a_propagator_of_words_is_refused(root):
    with pytest.raises(ValueError, match="starts from masks, such as 'SAM2Propagator'.*got "
                                         "'GLUSPropagator'"):
        predictions(root, dict(type='GLUSPropagator'))


@pytest.mark.parametrize('entry, message', [
    (dict(objects=['1', 'x']), r"meta\.json: video 'clip'.*key 'objects'.*'x'"),
    (dict(objects=['1', '1']), "key 'objects': expected each number once, got"),
    (dict(objects='1'), r"meta\.json: video 'clip'.*'objects'"),
    ({}, "'objects'"),
    (dict(objects=['2']), "expected object 2 on at least one of the 6 frames"),
    ([], "'clip'"),
])
def test_broken_lists(root, entry, message):
    write_list(root, clip=entry)
    cfg, options = config(root)
    with pytest.raises(ValueError, match=message):
        build_child(DATASETS, dict(cfg.test_dataloader.dataset.to_dict(), **options))[0]


def test_broken_folders(root):
    with pytest.raises(ValueError, match='expected test_mode=True, as MOSE has no expressions'):
        MOSEDataset(data_root=str(root))
    (root / 'Annotations/clip/notes.png').touch()
    with pytest.raises(ValueError, match='expected PNG files with a number as name'):
        MOSEDataset(data_root=str(root), test_mode=True)
    with pytest.raises(FileNotFoundError, match='expected the annotations of MOSE'):
        MOSEDataset(data_root=str(root), test_mode=True, data_prefix=dict(mask='nowhere'))
