"""Parsing, addressing and errors of the data sets in MeViS layout."""

import json

import numpy as np
import pytest
from mmengine.logging import MMLogger

from glus_mm.datasets import MaskStore, MeViSDataset, MovingShapesDataset
from glus_mm.registry import DATASETS


def _dataset(root, **kwargs):
    return MeViSDataset(data_root=str(root), **kwargs)


def _video(content, video='long'):
    return content['videos'][video]


def test_data_info(mevis_root):
    dataset = _dataset(mevis_root)
    assert len(dataset) == 3
    assert dataset.metainfo['dataset'] == 'mevis'
    info = dataset.get_data_info(0)
    assert (info['dataset'], info['video_id'], info['ori_shape']) == ('mevis', 'long', (40, 56))
    assert info['frame_names'][:2] == ('00000', '00003')
    assert info['img_paths'][1] == str(mevis_root / 'JPEGImages' / 'long' / '00003.jpg')
    assert info['expressions'][0] == {
        'video_id': 'long', 'exp_id': '0', 'exp': 'A red box.', 'object_ids': ('0',),
        'anno_ids': ('0',), 'kind': 'appearance'}
    assert info['expressions'][2]['object_ids'] == ('0', '1')
    assert info['expressions'][3]['anno_ids'] == ()
    assert dataset.get_data_info(1)['ori_shape'] is None
    dataset = DATASETS.build({'type': 'glus_mm.MovingShapesDataset', 'data_root': str(mevis_root)})
    assert isinstance(dataset, MovingShapesDataset)
    assert dataset.get_data_info(0)['dataset'] == 'moving_shapes'


def test_split_without_masks(mevis_root, edit_json):
    (mevis_root / 'mask_dict.json').unlink()

    def strip(content):
        for video in content['videos'].values():
            for entry in video['expressions'].values():
                del entry['obj_id'], entry['anno_id']

    edit_json(mevis_root / 'meta_expressions.json', strip)
    dataset = _dataset(mevis_root, test_mode=True)
    assert dataset.masks is None
    assert dataset.get_data_info(0)['expressions'][0]['object_ids'] == ()
    with pytest.raises(FileNotFoundError, match='training needs masks.*mask_dict.json'):
        _dataset(mevis_root)


def test_min_frames_drops_and_logs(mevis_root):
    logger = MMLogger.get_instance('test_min_frames')
    messages = []
    logger.addFilter(lambda record: messages.append(record.getMessage()) or True)
    dataset = _dataset(mevis_root, min_frames=4)
    assert [dataset.get_data_info(i)['video_id'] for i in range(2)] == ['long', 'mid']
    assert len(dataset) == 2
    assert any('left out 1 of 3 videos with fewer than 4 frames' in m for m in messages)
    with pytest.raises(ValueError, match='at least one video of at least 13 frames, got 3'):
        _dataset(mevis_root, min_frames=13)


def test_options(mevis_root):
    assert len(_dataset(mevis_root, indices=2)) == 2
    dataset = _dataset(mevis_root, lazy_init=True, pipeline=[lambda r: r['video_id']])
    assert dataset[1] == 'short'
    (mevis_root / 'mask_dict.json').rename(mevis_root / 'other.json')
    dataset = _dataset(mevis_root, data_prefix={'mask': 'other.json'})
    assert dataset.masks.path == str(mevis_root / 'other.json')
    assert 'JPEGImages' in dataset.get_data_info(0)['img_paths'][0]


def test_items(mevis_root):
    pipeline = [lambda results: results['rng'].integers(1 << 40)]
    dataset = _dataset(mevis_root, pipeline=pipeline, seed=3)
    assert dataset[1] == dataset[1] == dataset[(1, 0)] == dataset[-2] == dataset[np.int64(1)]
    values = {dataset[(i, draw)] for i in range(3) for draw in range(5)}
    assert len(values) == 15
    assert dataset[1] == np.random.default_rng((3, 1, 0)).integers(1 << 40)
    assert dataset[1] != _dataset(mevis_root, pipeline=pipeline, seed=4)[1]
    dataset = _dataset(mevis_root, pipeline=[lambda results: None])
    with pytest.raises(ValueError, match="transform returned None for video 'long'"):
        dataset[0]
    with pytest.raises(ValueError, match='max_refetch must be 0, got 5'):
        _dataset(mevis_root, max_refetch=5)
    for index in (3, -4):
        with pytest.raises(IndexError, match=f'expected an index below 3, got {index}'):
            dataset[index]


@pytest.mark.parametrize('kwargs, message', [
    ({'data_prefix': {'imgs': 'x'}}, r"keys out of \['img', 'mask'\], got \['imgs'\]"),
    ({'min_frames': 0}, 'min_frames must be an integer of at least 1, got 0'),
    ({'seed': -1}, 'seed must be an integer of at least 0, got -1'),
])
def test_bad_arguments(mevis_root, kwargs, message):
    with pytest.raises(ValueError, match=message):
        _dataset(mevis_root, **kwargs)
    with pytest.raises(TypeError, match='min_frame'):
        _dataset(mevis_root, min_frame=4)


def test_runs_of_random_masks_are_accepted(tmp_path):
    """Negative differences and long runs: everything pycocotools writes must pass."""
    from glus_mm.utils.masks import encode_mask
    rng = np.random.default_rng(0)
    track = []
    for density in (0, 0.001, 0.01, 0.3, 0.5, 0.99, 1):
        for shape in ((7, 5), (64, 48), (300, 400), (1080, 1920)):
            blob = rng.random((shape[0] // 5 + 1, shape[1] // 5 + 1)) < density
            mask = np.kron(blob, np.ones((5, 5), dtype=bool))[:shape[0], :shape[1]]
            track.append(encode_mask(mask))
    (tmp_path / 'masks.json').write_text(json.dumps({'0': track}))
    store = MaskStore(tmp_path / 'masks.json')
    expression = {'video_id': 'v', 'exp_id': '0', 'anno_ids': ('0',)}
    for i, rle in enumerate(track):
        assert store.rles(expression, i, tuple(rle['size'])) == [rle]
