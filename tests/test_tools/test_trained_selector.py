"""GLUS asks a trained key-frame selector, whose weights are no part of its own."""

import json

import pytest
import torch
from mmengine import Config

from glus_mm.apis import init_model
from glus_mm.datasets.moving_shapes import write_split
from glus_mm.models.inference import ImageFolderReader
from glus_mm.structures import RefVOSDataSample
from programs import ROOT

CONFIG = ROOT / 'configs/glus/glus_tiny_moving-shapes.py'
SELECTOR = ROOT / 'configs/selectors/key-frame-selector_tiny_moving-shapes.py'
GLUS = ROOT / 'checkpoints/glus_tiny_moving-shapes.pth'
SHRUNK = {'model.mllm.llm.num_hidden_layers': 1, 'model.test_cfg': dict(need_token=False)}


@pytest.fixture(scope='module')
def selector(tmp_path_factory):
    """A selector with random weights, stored in half precision."""
    torch.manual_seed(3)
    model = init_model(SELECTOR, cfg_options=SHRUNK)
    path = tmp_path_factory.mktemp('selector') / 'selector.pth'
    torch.save(dict(state_dict=model.half().state_dict()), path)
    return path


def as_part(path):
    """The selector as ``model.test_cfg.selector``."""
    cfg = Config.fromfile(SELECTOR)
    cfg.merge_from_dict(SHRUNK)
    return dict(cfg.model.to_dict(), checkpoint=None if path is None else str(path))


@pytest.mark.slow
def test_testing_with_it_gives_the_figures_of_its_key_frames(selector, tmp_path, run_tool):
    data = write_split(tmp_path / 'data', 1, seed=5, split='valid_u', mp4=False)
    meta = json.loads((data / 'meta_expressions.json').read_text())
    (name, video), = meta['videos'].items()
    video['expressions'] = dict(list(video['expressions'].items())[:3])
    (data / 'meta_expressions.json').write_text(json.dumps(meta))

    reader = ImageFolderReader.from_folder(data / 'JPEGImages' / name)
    exps = video['expressions']
    sample = RefVOSDataSample(metainfo=dict(
        video_id=name, exp_ids=tuple(exps), expressions=tuple(e['exp'] for e in exps.values())))
    chosen = init_model(SELECTOR, selector, cfg_options=SHRUNK).select(reader, sample).frame_ids
    assert any(chosen), 'not the default anyway'
    key_frames = dict(format='glus_mm.key_frames', dataset='moving_shapes', key_frames={name: {
        e: reader.frame_names[t] for e, t in zip(exps, chosen)}})
    (tmp_path / 'keys.json').write_text(json.dumps(key_frames))

    figures = []
    for part in (as_part(selector), dict(type='FileKeyFrameSelector', file='keys.json')):
        config = tmp_path / 'config.py'
        config.write_text(f"_base_ = ['{CONFIG}']\n"
                          f"test_dataloader = dict(dataset=dict(data_root='{data}'))\n"
                          f'model = dict(test_cfg=dict(selector={part!r}))\n')
        run_tool('test', config, GLUS, '--dump', 'f.json')
        figures.append(json.loads((tmp_path / 'f.json').read_text()))
    assert figures[0] == figures[1]


def test_its_weights_are_outside_of_the_model(selector, tmp_path):
    model = init_model(CONFIG, GLUS, cfg_options={'model.test_cfg.selector': as_part(selector)})
    assert not [name for name in model.state_dict() if 'selector' in name]
    assert len(list(model.parameters())) == len(list(init_model(CONFIG, GLUS).parameters()))
    stored = torch.load(selector)['state_dict']
    for name, value in model.selector.state_dict().items():
        torch.testing.assert_close(value.half(), stored[name], rtol=0, atol=0)
    assert not model.train().selector.training
    assert next(model.half().selector.parameters()).dtype == torch.float16, 'it goes along'
    for part, kind, message in (
            (as_part(None), ValueError, 'selector.checkpoint.*KeyFrameSelector.*got none'),
            (as_part(tmp_path / 'no.pth'), FileNotFoundError, 'selector.checkpoint.*no.pth')):
        with pytest.raises(kind, match=message):
            init_model(CONFIG, GLUS, cfg_options={'model.test_cfg.selector': part})
    with pytest.raises(ValueError, match=r'does not fit the model KeyFrameSelector(.|\n)*score'):
        init_model(CONFIG, GLUS, cfg_options={'model.test_cfg.selector': as_part(GLUS)})
