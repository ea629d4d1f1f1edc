"""The config of every data set finds its files where docs/prepare_data.md puts them."""

import json
import re
import shutil
from pathlib import Path

import pytest
from dataset_layouts import LAYOUTS, Layout, write_json
from mmengine import Config

from glus_mm.registry import DATASETS, METRICS, build_child
from programs import ROOT

CONFIGS = ROOT / 'configs' / '_base_' / 'datasets'
# config: layout, what to copy for testing
NAMES = {'mevis': 'mevis', 'mevis-v2': 'mevis_v2', 'ref-youtube-vos': 'ref_youtube_vos',
         'ref-davis': 'ref_davis', 'revos': 'revos', 'reason-vos': 'reason_vos',
         'lv-vis': 'lv_vis', 'long-rvos': 'long_rvos', 'ref-sav': 'ref_sav'}


def write_tree(name: str, layout: Layout, data_root: Path) -> None:
    """Write all splits, as copies of one; the short video is long enough for none of them."""
    splits = {'mevis': ('train', 'valid_u'), 'mevis-v2': ('train', 'valid_u'),
              'long-rvos': ('train', 'valid'), 'ref-sav': ('valid', )}.get(name)
    if splits is not None:
        for split in splits:
            layout.write(data_root / split)
        return
    layout.write(data_root)
    if (data_root / 'meta_expressions').is_dir():
        for folder in ('', 'meta_expressions'):
            shutil.copytree(data_root / folder / 'train', data_root / folder / 'valid')
    if name == 'ref-youtube-vos':
        shutil.rmtree(data_root / 'valid' / 'Annotations')
        meta = json.loads((data_root / layout.ann_file).read_text())
        meta['videos'].pop('vid_a')
        write_json(data_root / 'meta_expressions/test/meta_expressions.json', meta)
    if name == 'revos':
        shutil.copy(data_root / layout.ann_file, data_root / 'meta_expressions_valid_.json')


@pytest.fixture(params=NAMES)
def config(request, tmp_path, monkeypatch):
    """Name, layout and config, in a folder that has the data in ``data``."""
    name, layout = request.param, LAYOUTS[NAMES[request.param]]
    cfg = Config.fromfile(CONFIGS / f'{name}.py')
    write_tree(name, layout, tmp_path / cfg.data_root)
    monkeypatch.chdir(tmp_path)
    return name, layout, cfg


def test_data_sets_of_a_config(config):
    name, layout, cfg = config
    assert ('train_dataloader' in cfg, 'test_dataloader' in cfg) == (
        name not in ('reason-vos', 'ref-sav'), name != 'lv-vis')
    for phase in ('train', 'test'):
        if f'{phase}_dataloader' not in cfg:
            continue
        part = cfg[f'{phase}_dataloader'].dataset.to_dict()
        assert part['pipeline'] == cfg[f'{phase}_pipeline']
        # Images of the real size take a second; test_official_layouts.py runs whole pipelines.
        pipeline = [step for step in part['pipeline'] if step['type'] not in (
            'ResizeForEncoders', 'BuildConversation', 'PackRefVOSInputs')]
        dataset = build_child(DATASETS, dict(
            part, serialize_data=False,
            pipeline=[dict(step, type=f'glus_mm.{step["type"]}') for step in pipeline]))
        assert type(dataset) is layout.dataset and dataset.test_mode is (phase == 'test')
        if phase == 'train':
            assert dataset.min_frames == 4 and 'gt_masks' in dataset[0]
        else:
            server = name == 'ref-youtube-vos'
            assert ('gt_rles' in dataset[0]) is not server
            assert len(dataset) == (1 if server else 2)
    if 'test_dataloader' in cfg:
        assert build_child(METRICS, cfg.test_evaluator.to_dict()) is not None


def test_the_documented_trees_name_every_file_that_is_read(config):
    name, layout, cfg = config
    text = (ROOT / 'docs' / 'prepare_data.md').read_text()
    tree = re.search(rf'```\n{re.escape(cfg.data_root)}/\n(.*?)```', text, re.S)
    assert tree, f'no tree of {cfg.data_root}'
    for path in (layout.ann_file, layout.masks, layout.images):
        for part in Path(path).parts:
            assert part in tree[1], f'{part} in the tree of {cfg.data_root}'
    assert f'configs/_base_/datasets/{name}.py' in text
