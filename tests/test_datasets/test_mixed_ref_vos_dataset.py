"""Several data sets as one."""

import json
import pickle

import numpy as np
import pytest
from mmengine.registry import DATASETS as ROOT_DATASETS, DefaultScope

from glus_mm.datasets import MeViSDataset, MixedRefVOSDataset
from glus_mm.registry import DATASETS


def look(results):
    """A pipeline that shows where a sample comes from and what it was given at random."""
    return dict(dataset=results['dataset'], video=results['video_id'],
                number=int(results['rng'].integers(1 << 40)))


def child(root, **kwargs):
    return dict(type='MeViSDataset', data_root=str(root), pipeline=[look], **kwargs)


@pytest.fixture
def mix(mevis_root):
    """3 + 2 + 3 videos, the last two under other names."""
    return MixedRefVOSDataset([
        child(mevis_root),
        child(mevis_root, min_frames=4, metainfo=dict(dataset='long_ones')),
        child(mevis_root, seed=7, metainfo=dict(dataset='seeded')),
    ])


def test_items_stand_one_after_the_other(mix):
    assert len(mix) == 8
    assert [(item['dataset'], item['video']) for item in mix] == [
        ('mevis', 'long'), ('mevis', 'short'), ('mevis', 'mid'),
        ('long_ones', 'long'), ('long_ones', 'mid'),
        ('seeded', 'long'), ('seeded', 'short'), ('seeded', 'mid')]
    assert mix[-1] == mix[7] and mix[-8] == mix[0]
    assert mix[np.int64(4)] == mix[4] == mix[4, 0]
    assert mix.get_data_info(4)['video_id'] == 'mid'
    copy = pickle.loads(pickle.dumps(mix))
    assert [copy[i, 3] for i in range(8)] == [mix[i, 3] for i in range(8)]


def test_a_video_gives_the_same_samples_wherever_its_data_set_stands(mevis_root, mix):
    alone = MeViSDataset(data_root=str(mevis_root), pipeline=[look], min_frames=4)
    turned = MixedRefVOSDataset([mix.datasets[2], mix.datasets[1]])
    for draw in (0, 1, 12345678901234567890):
        for index in range(2):
            number = alone[index, draw]['number']
            assert mix[3 + index, draw]['number'] == turned[3 + index, draw]['number'] == number
            assert mix[5 + index, draw] == turned[index, draw]
    numbers = [mix[index, draw]['number'] for index in (3, 4, 5, 6, 7) for draw in range(9)]
    assert len(set(numbers)) == len(numbers)


@pytest.mark.parametrize('index', [8, -9, (8, 0), (-9, 1)])
def test_index_out_of_range(mix, index):
    with pytest.raises(IndexError, match='expected an index below 8'):
        mix[index]


def test_metainfo(mevis_root, mix):
    assert mix.metainfo == dict(dataset='mevis+long_ones+seeded')
    assert mix.datasets[0].metainfo == dict(dataset='mevis')
    same = MixedRefVOSDataset([child(mevis_root, metainfo=dict(dataset='a', colors=3))] * 2)
    assert same.metainfo == dict(dataset='a', colors=3)
    with pytest.raises(ValueError, match='metainfo|meta information'):
        MixedRefVOSDataset([child(mevis_root, metainfo=dict(colors=3)),
                            child(mevis_root, metainfo=dict(colors=4))])


def test_lazy_and_in_another_scope(mevis_root):
    mix = MixedRefVOSDataset([child(mevis_root), child(mevis_root / 'no')], lazy_init=True)
    with pytest.raises(FileNotFoundError, match=r'datasets\[1\] \(MeViSDataset\): .*no/meta_expr'):
        mix.full_init()
    mix = MixedRefVOSDataset([child(mevis_root)] * 2, lazy_init=True)
    assert not any(dataset._fully_initialized for dataset in mix.datasets)
    assert len(mix) == 6 and mix[4]['video'] == 'short'
    cfg = dict(type='glus_mm.MixedRefVOSDataset', datasets=[child(mevis_root)])
    with DefaultScope.overwrite_default_scope('mmengine'):
        assert len(ROOT_DATASETS.build(cfg)) == 3
    assert cfg['datasets'][0].keys() == child(mevis_root).keys(), 'the config was changed'


@pytest.mark.parametrize('change, error, message', [
    (lambda c: c.pop('data_root'), FileNotFoundError, 'meta_expressions.json'),
    (lambda c: c.update(data_rot='x'), TypeError, 'data_rot'),
    (lambda c: c.update(min_frames=100), ValueError, 'none long enough'),
    (lambda c: c.update(seed=-1), ValueError, 'seed must be'),
    (lambda c: c.update(type='MeVisDataset'), KeyError, 'MeVisDataset is not in the'),
    (lambda c: c.pop('type'), KeyError, 'must contain the key "type"'),
    (lambda c: (c.clear(), c.update(type='RepeatDataset', dataset=[], times=2)), TypeError,
     'RepeatDataset|elements in datasets'),
])
def test_errors_name_the_data_set(mevis_root, change, error, message):
    broken = child(mevis_root)
    change(broken)
    with pytest.raises(error, match=message) as raised:
        MixedRefVOSDataset([child(mevis_root), broken])
    assert 'datasets[1] (' in str(raised.value)
    assert type(raised.value) is error


def test_only_data_sets_of_videos(mevis_root):
    with pytest.raises(ValueError, match='at least one data set'):
        MixedRefVOSDataset([])
    with pytest.raises(ValueError, match='a list of at least one data set'):
        MixedRefVOSDataset(child(mevis_root))
    with pytest.raises(TypeError, match=r'datasets\[0\] \(str\): expected a config dict'):
        MixedRefVOSDataset(['MeViSDataset'])
    with pytest.raises(TypeError, match=r'datasets\[0\] \(range\): .*BaseRefVOSDataset'):
        MixedRefVOSDataset([range(3)])
    with pytest.raises(TypeError, match='ratios'):
        DATASETS.build(dict(type='MixedRefVOSDataset', datasets=[child(mevis_root)], ratios=[1]))


def test_items_that_are_broken(mevis_root, edit_json, mix):
    def fail(results):
        raise ValueError(f'broken frame of {results["video_id"]}')

    mix.datasets[1].pipeline.transforms[:] = [fail]
    with pytest.raises(ValueError, match='broken frame of mid'):
        mix[4]
    assert json.loads(json.dumps(mix[7]))['video'] == 'mid'
    edit_json(mevis_root / 'meta_expressions.json', lambda c: c['videos']['mid'].pop('frames'))
    with pytest.raises(ValueError, match=r"datasets\[0\] \(MeViSDataset\): .*'mid'.*'frames'"):
        MixedRefVOSDataset([child(mevis_root)])
    (mevis_root / 'meta_expressions.json').write_bytes(b'\xff\xfe not utf-8')
    with pytest.raises(ValueError, match=r'datasets\[0\] .*meta_expressions.json'):
        MixedRefVOSDataset([child(mevis_root)])
