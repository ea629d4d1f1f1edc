"""The shipped mixes on small trees in the official layouts."""

from collections import Counter
from itertools import islice

import pytest
from dataset_layouts import LAYOUTS
from mmengine import Config

from glus_mm.registry import DATA_SAMPLERS, DATASETS
from programs import ROOT

BASES = ROOT / 'configs' / '_base_' / 'datasets'
# In the order of the paper's ratios: name in the data samples, primitive, where it lies.
SETS = dict(
    mevis=('mevis', 'data/mevis/train'),
    ref_youtube_vos=('ref-youtube-vos', 'data/Refer-YouTube-VOS'),
    ref_davis=('ref-davis', 'data/DAVIS17'),
    revos=('revos', 'data/ReVOS'),
    lv_vis=('lv-vis', 'data/LVVIS'))
LEAF = 'ablations/glus_lisa-7b_sam2-l_4xb2-3k_mevis-ref-youtube-vos_ratio'
MIXES = {
    '_base_/datasets/standard-sft.py': [1, 1],
    '_base_/datasets/additional-sft.py': [40, 150, 4, 30, 30],
    f'{LEAF}-2-1.py': [2, 1], f'{LEAF}-1-1.py': [1, 1], f'{LEAF}-1-2.py': [1, 2],
    f'{LEAF}-4-15.py': [4, 15],
}


@pytest.fixture
def trees(scope, tmp_path, monkeypatch):
    """A folder with all data sets at their places, which is the working directory."""
    for name, (_, place) in SETS.items():
        LAYOUTS[name].write(tmp_path / place)
    LAYOUTS['mevis'].write(tmp_path / 'data' / 'mevis' / 'valid_u')
    monkeypatch.chdir(tmp_path)


def read(name):
    cfg = Config.fromfile(ROOT / 'configs' / name)
    pipeline = cfg.train_dataloader.dataset.pipeline
    pipeline[3].update(vision_size=28, sam_size=32)
    pipeline[4].update(tokenizer='tiny')
    return cfg


@pytest.mark.parametrize('name', MIXES)
def test_mix(trees, name):
    cfg, ratios = read(name), MIXES[name]
    mix = DATASETS.build(cfg.train_dataloader.dataset)
    names = list(SETS)[:len(ratios)]
    assert mix.metainfo['dataset'] == '+'.join(names) and len(mix) == 2 * len(ratios)
    sampler = DATA_SAMPLERS.build(cfg.train_dataloader.sampler,
                                  default_args=dict(dataset=mix, seed=0))
    assert sampler.ratios == ratios
    counts = Counter(mix.get_data_info(index)['dataset'] for index, _ in islice(sampler, 2000))
    for each, ratio in zip(names, ratios, strict=True):
        share = ratio / sum(ratios)
        assert abs(counts[each] - 2000 * share) < 4 * (2000 * share * (1 - share)) ** 0.5
    for index in range(len(mix)):
        item = mix[index, 17]
        sample = item['data_samples']
        assert sample.dataset == names[index // 2]
        assert sample.gt_masks.shape[:2] == (len(sample), 4) and sample.gt_masks.any()
        assert 1 <= len(sample) <= 3 and len(item['inputs']['clip_imgs']) == 8


@pytest.mark.parametrize('name', MIXES)
def test_testing_is_on_mevis(trees, name):
    cfg = read(name)
    dataset = DATASETS.build(cfg.test_dataloader.dataset)
    assert dataset[0]['data_samples'].dataset == 'mevis' and len(dataset) == 2
    mevis = Config.fromfile(BASES / 'mevis.py')
    assert cfg.test_dataloader == mevis.test_dataloader
    assert cfg.test_evaluator == mevis.test_evaluator


@pytest.mark.parametrize('name', MIXES)
def test_data_sets_are_those_of_their_own_files(name):
    """MMEngine cannot inherit them all, so that their places are written twice."""
    loader = Config.fromfile(ROOT / 'configs' / name).train_dataloader.to_dict()
    mix = loader.pop('dataset')
    children = [dict(child, pipeline=mix['pipeline']) for child in mix['datasets']]
    loader.pop('sampler')
    assert len(children) == len(MIXES[name])
    for child, (primitive, place) in zip(children, SETS.values()):
        alone = Config.fromfile(BASES / f'{primitive}.py').train_dataloader.to_dict()
        assert child == alone.pop('dataset') and child['data_root'] == place
        alone.pop('sampler')
        assert loader == alone
