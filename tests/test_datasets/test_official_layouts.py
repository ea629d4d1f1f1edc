"""Every data set in its official layout, from the files to training and test samples."""

import copy
import json
import pickle
import shutil

import numpy as np
import pytest
import torch
from dataset_layouts import (
    LAYOUTS,
    VIDEOS,
    frame_names,
    test_pipeline as pipeline_for_testing,
    train_pipeline,
    union_mask,
    write_json,
)
from mmengine.dataset import pseudo_collate
from PIL import Image
from torch.utils.data import DataLoader

from glus_mm.datasets import (
    BinaryMaskStore,
    MaskStore,
    PaletteMaskStore,
    ReasonVOSDataset,
    RefDAVISDataset,
    RefYouTubeVOSDataset,
    ReVOSDataset,
)
from glus_mm.datasets.ref_davis import number_expressions
from glus_mm.registry import DATASETS
from glus_mm.utils.masks import decode_rle

TRAINED = [name for name, layout in LAYOUTS.items() if layout.train]


@pytest.fixture(scope='module')
def trees(tmp_path_factory):
    root = tmp_path_factory.mktemp('layouts')
    for name, layout in LAYOUTS.items():
        layout.write(root / name)
    return root


def true_objects(content, layout, video, exp_id):
    """The objects of an expression, read from the annotation without the data set."""
    expressions = content['videos'][video]['expressions']
    entry = expressions[int(exp_id) if isinstance(expressions, list) else exp_id]
    ids = entry['obj_id']
    return tuple(map(str, ids if isinstance(ids, list) else [ids]))


def check_mask(layout, content, sample, exp, frame_idx, mask):
    """Compare a mask pixel by pixel with what was drawn."""
    video = sample.video_id.removeprefix(layout.prefix)
    objects = true_objects(content, layout, sample.video_id, sample.exp_ids[exp])
    assert sample.object_ids[exp] == objects
    drawn = frame_names(video).index(sample.frame_names[frame_idx])
    assert np.array_equal(mask, union_mask(VIDEOS[video][1], objects, drawn))


@pytest.mark.parametrize('name', TRAINED)
def test_training_samples(trees, name):
    layout = LAYOUTS[name]
    content = json.loads((trees / name / layout.ann_file).read_text())
    dataset = layout.build(trees / name, pipeline=train_pipeline(num_query=4), min_frames=4)
    seen = set()
    for index in range(len(dataset)):
        for draw in range(3):
            item = dataset[index, draw]
            inputs, sample = item['inputs'], item['data_samples']
            video = sample.video_id.removeprefix(layout.prefix)
            num_expressions = len(content['videos'][sample.video_id]['expressions'])
            assert inputs['clip_imgs'].shape == (6, 3, 8, 8)
            assert inputs['sam_imgs'].shape == (4, 3, 16, 16)
            assert len(inputs['input_ids']) == len(sample) == num_expressions
            assert sample.gt_masks.shape == (num_expressions, 4, *VIDEOS[video][1])
            assert sample.gt_masks.dtype == torch.uint8
            # The images are as grey as their place in time.
            for t, frame_idx in enumerate(sample.query_frame_ids):
                assert abs(float(inputs['sam_imgs'][t].mean()) * 255 - 20 * frame_idx) < 1.5
                for exp in range(len(sample)):
                    mask = sample.gt_masks[exp, t].numpy()
                    check_mask(layout, content, sample, exp, frame_idx, mask)
                    seen.add((mask.any(), sample.exp_ids[exp]))
    assert {any_there for any_there, _ in seen} == {True, False}
    pseudo_collate([dataset[0], dataset[1]])


@pytest.mark.parametrize('name', LAYOUTS)
def test_test_samples(trees, name):
    layout = LAYOUTS[name]
    content = json.loads((trees / name / layout.ann_file).read_text())
    dataset = layout.build(trees / name, test_mode=True, pipeline=pipeline_for_testing())
    assert [dataset.get_data_info(i)['video_id'] for i in range(2)] == list(content['videos'])
    for index in range(len(dataset)):
        item = dataset[index]
        reader, sample = item['inputs']['reader'], item['data_samples']
        video = sample.video_id.removeprefix(layout.prefix)
        assert sample.frame_names == tuple(content['videos'][sample.video_id]['frames'])
        assert reader.frame_names == sample.frame_names and reader.shape == VIDEOS[video][1]
        for t, frame in enumerate(sample.frame_names):
            assert abs(float(reader.read(t).mean()) - 20 * frame_names(video).index(frame)) < 1.5
            for exp in range(len(sample)):
                check_mask(layout, content, sample, exp, t, decode_rle(sample.gt_rles[exp][t]))
        pickle.dumps(item)


@pytest.mark.parametrize('name', TRAINED)
def test_workers_give_the_same_samples(trees, name):
    dataset = LAYOUTS[name].build(trees / name, serialize_data=True,
                                  pipeline=train_pipeline(num_query=3))
    pairs = [(0, 0), (1, 0), (1, 1), (0, 1)]
    loader = DataLoader(dataset, batch_size=None, sampler=pairs, num_workers=2,
                        multiprocessing_context='fork')
    for pair, item in zip(pairs, loader):
        again = dataset[pair]
        assert torch.equal(item['data_samples'].gt_masks, again['data_samples'].gt_masks)
        assert item['data_samples'].exp_ids == again['data_samples'].exp_ids
        assert torch.equal(item['inputs']['clip_imgs'], again['inputs']['clip_imgs'])


def test_names_and_lengths(trees):
    """Object identities are compared within data set and video only."""
    names = {}
    for name, layout in LAYOUTS.items():
        built = DATASETS.build(dict(layout.options, type=f'glus_mm.{layout.dataset.__name__}',
                                    data_root=str(trees / name), serialize_data=False))
        names[name.removesuffix('_dict')] = built.metainfo['dataset']
    assert names == {name: name for name in names} and len(names) == 9
    for name, layout in LAYOUTS.items():
        dataset = layout.build(trees / name, min_frames=6)
        assert [dataset.get_data_info(i)['video_id'] for i in range(len(dataset))] == [
            f'{layout.prefix}vid_a']


@pytest.mark.parametrize('name', LAYOUTS)
def test_objects_are_the_same_ones_in_all_expressions(trees, name):
    info = LAYOUTS[name].build(trees / name).get_data_info(0)
    by_object = {}
    for expression in info['expressions']:
        assert len(set(expression['object_ids'])) == len(expression['object_ids'])
        for object_id, anno_id in zip(expression['object_ids'], expression['anno_ids']):
            by_object.setdefault(object_id, set()).add(anno_id)
    assert set(by_object) == {'1', '2'}
    # In the GLUS way each expression has masks of its own; else an object has one annotation.
    assert all(len(annos) == (4 if name == 'ref_davis_dict' else 1)
               for annos in by_object.values())


@pytest.mark.parametrize('name', LAYOUTS)
def test_without_masks_only_testing_goes_on(trees, tmp_path, name):
    layout, root = LAYOUTS[name], tmp_path / 'tree'
    shutil.copytree(trees / name, root)
    masks = root / layout.masks
    masks.unlink() if masks.is_file() else shutil.rmtree(masks)
    dataset = layout.build(root, test_mode=True, pipeline=pipeline_for_testing())
    assert dataset.masks is None and 'gt_rles' not in dataset[0]['data_samples']
    if layout.train:
        with pytest.raises(FileNotFoundError, match='training needs masks'):
            layout.build(root)


# ---- what each data set has of its own ----


def test_what_data_sets_have_of_their_own(trees):
    dataset = ReVOSDataset(data_root=str(trees / 'revos'))
    info = dataset.get_data_info(0)
    assert [item['kind'] for item in info['expressions']] == [
        'referring', 'reason', 'reason', 'hallucination']
    assert info['expressions'][3]['object_ids'] == ()
    assert info['video_id'] == 'UVO/all/vid_a' and info['ori_shape'] == VIDEOS['vid_a'][1]
    assert info['img_paths'][0] == str(trees / 'revos/JPEGImages/UVO/all/vid_a/00000.jpg')
    dataset = LAYOUTS['mevis_v2'].build(trees / 'mevis_v2', pipeline=train_pipeline())
    sample = dataset[0]['data_samples']
    place = sample.exp_ids.index('3')
    assert sample.object_ids[place] == () and not sample.gt_masks[place].any()
    with pytest.raises(ValueError, match='expected test_mode=True'):
        ReasonVOSDataset(data_root=str(trees / 'reason_vos'))


def test_ref_youtube_vos_for_the_server(trees, tmp_path):
    root = tmp_path / 'tree'
    shutil.copytree(trees / 'ref_youtube_vos', root)
    videos = json.loads((root / 'meta_expressions/train/meta_expressions.json').read_text())
    for video in videos['videos'].values():
        for entry in video['expressions'].values():
            del entry['obj_id']
    (root / 'train').rename(root / 'valid')
    shutil.rmtree(root / 'valid/Annotations')
    write_json(root / 'meta_expressions/valid/meta_expressions.json', videos)
    write_json(root / 'meta_expressions/test/meta_expressions.json',
               {'videos': {'vid_b': videos['videos']['vid_b'], 'another': {}}})
    options = dict(
        data_root=str(root), test_mode=True, min_frames=4, pipeline=pipeline_for_testing(),
        ann_file='meta_expressions/valid/meta_expressions.json',
        data_prefix=dict(img='valid/JPEGImages', mask='valid/Annotations'))
    assert len(RefYouTubeVOSDataset(**options)) == 2
    test_file = 'meta_expressions/test/meta_expressions.json'
    dataset = RefYouTubeVOSDataset(exclude_ann_file=test_file, **options)
    assert len(dataset) == 1
    sample = dataset[0]['data_samples']
    assert sample.video_id == 'vid_a' and sample.object_ids == ((), ())
    assert 'gt_rles' not in sample
    write_json(root / test_file, {'videos': {'another': {}}})
    with pytest.raises(ValueError, match='test/meta_expressions.json: expected videos of .*valid'):
        RefYouTubeVOSDataset(exclude_ann_file=test_file, **options)
    with pytest.raises(FileNotFoundError, match='no-such.json'):
        RefYouTubeVOSDataset(exclude_ann_file='no-such.json', **options)


def test_ref_davis(trees):
    videos = {'b': {'expressions': {str(i): {} for i in range(12)}},
              'a': {'expressions': {'1': {}, '0': {}}}}
    numbers = number_expressions(videos, 'x.json')
    assert [numbers['a', '0'], numbers['a', '1']] == ['0', '1']
    order = sorted(range(12), key=lambda i: int(numbers['b', str(i)]))
    assert order == [0, 1, 10, 11, 2, 3, 4, 5, 6, 7, 8, 9] and numbers['b', '0'] == '2'
    dataset = RefDAVISDataset(data_root=str(trees / 'ref_davis'))
    info = dataset.get_data_info(0)
    for expression in info['expressions']:
        rle, = dataset.masks.rles(expression, 0, (24, 40))
        assert not decode_rle(rle)[-1, -1]
    path = trees / 'ref_davis/train/Annotations/vid_a/00000.png'
    assert np.asarray(Image.open(path))[-1, -1] == 255


def test_ids_of_reason_vos(trees, tmp_path):
    """Its own, else the place in the list; a dict has ids by itself."""
    root = tmp_path / 'tree'
    shutil.copytree(trees / 'reason_vos', root)
    path = root / 'meta_expressions.json'
    content = json.loads(path.read_text())
    first, second = content['videos'].values()
    first['expressions'][1]['exp_id'] = 7
    for entry in second['expressions']:
        del entry['exp_id']

    def ids():
        write_json(path, content)
        dataset = ReasonVOSDataset(data_root=str(root), test_mode=True)
        return [[item['exp_id'] for item in dataset.get_data_info(i)['expressions']]
                for i in range(2)]

    assert ids() == [['0', '7'], ['0', '1']]
    second['expressions'] = {'5': second['expressions'][0]}
    assert ids() == [['0', '7'], ['5']]


# ---- the sources of masks ----


def test_caches_of_masks_are_bounded(trees):
    sources = {'mevis': (MaskStore, 'mask_dict.json', 1), 'reason_vos': (
        BinaryMaskStore, 'Annotations', 2), 'ref_davis': (PaletteMaskStore, 'train/Annotations', 3)}
    for name, (kind, path, bound) in sources.items():
        source = kind(trees / name / path, cache_size=bound)
        cache = source._tracks._cache if kind is MaskStore else source._cache
        info = LAYOUTS[name].build(trees / name).get_data_info(0)
        shape = VIDEOS[info['video_id']][1]
        for _ in range(2):
            for expression in info['expressions']:
                for t, frame in enumerate(info['frame_names']):
                    found = source.rles(expression, t, shape)
                    drawn = frame_names(info['video_id']).index(frame)
                    want = union_mask(shape, expression['object_ids'], drawn)
                    got = sum((decode_rle(rle) for rle in found), np.zeros(shape, dtype=bool))
                    assert np.array_equal(got, want) and len(cache) <= bound
        assert len(cache) == bound
        assert copy.deepcopy(source) is source
        assert pickle.loads(pickle.dumps(source)).rles(expression, t, shape) == found
        with pytest.raises(ValueError, match='cache_size must be .*at least 1, got 0'):
            kind(trees / name / path, cache_size=0)


@pytest.mark.parametrize('name', ['mevis', 'ref_davis', 'reason_vos'])
def test_frames_outside_the_video(trees, name):
    dataset = LAYOUTS[name].build(trees / name)
    expression = dataset.get_data_info(0)['expressions'][0]
    for frame in (-1, 6):
        with pytest.raises(ValueError, match=f"video 'vid_a', expression '0', .*frame {frame}"):
            dataset.masks.rles(expression, frame, (24, 40))


def test_binary_masks_of_every_mode(tmp_path):
    mask = np.zeros((6, 8), dtype=np.uint8)
    mask[1:3, 2:7] = 1
    expression = dict(video_id='v', exp_id='0', anno_ids=('o', ), frame_names=('f', ))
    (tmp_path / 'o').mkdir()
    for value, mode in ((1, 'L'), (128, 'L'), (255, 'L'), (255, '1'), (255, 'P')):
        Image.fromarray(mask * value).convert(mode).save(tmp_path / 'o' / 'f.png')
        rle, = BinaryMaskStore(tmp_path).rles(expression, 0, (6, 8))
        assert np.array_equal(decode_rle(rle), mask == 1)
