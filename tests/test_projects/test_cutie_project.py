"""The Cutie project: what does not need the package, and with it a whole video."""

import importlib.util
import os
import sys

import numpy as np
import pytest
import torch
from mmengine import Config

from glus_mm.models.inference import ArrayReader
from glus_mm.models.propagators import KeyMaskPropagator
from glus_mm.registry import MODELS, build_child
from glus_mm.structures import RefVOSDataSample
from programs import ROOT

PROJECT = ROOT / 'projects' / 'cutie'
TYPE = 'glus_mm_cutie.CutiePropagator'
INSTALLED = importlib.util.find_spec('cutie') is not None


@pytest.fixture(autouse=True)
def on_the_path(monkeypatch):
    monkeypatch.syspath_prepend(str(PROJECT))
    yield
    for name in [name for name in sys.modules if name.split('.')[0] == 'glus_mm_cutie']:
        del sys.modules[name]
    MODELS.parent._children.pop('glus_mm_cutie', None)


@pytest.fixture
def config(shrink):
    cfg = shrink(Config.fromfile(PROJECT / 'configs' / 'glus_lisa-7b_sam2-l_cutie_mevis.py'))
    cfg.model.dtype = 'float32'
    return cfg


def sample():
    return RefVOSDataSample(metainfo=dict(
        dataset='toy', video_id='v', expressions=('a star', 'all'), exp_ids=('0', '1')))


def test_the_config_builds_without_the_package(config):
    model = build_child(MODELS, config.model)
    assert isinstance(model.propagator, KeyMaskPropagator)
    assert model.propagator.checkpoint == 'checkpoints/cutie-base-mega.pth'
    assert not any('propagator' in name for name in model.state_dict())
    with pytest.raises(TypeError, match='memory'):
        build_child(MODELS, dict(config.model, test_cfg=dict(
            propagator=dict(type=TYPE, checkpoint='x', memory=3))))


@pytest.mark.skipif(INSTALLED, reason='cutie is installed')
def test_without_the_package_the_message_says_how_to_install_it(config):
    model = build_child(MODELS, config.model).eval()
    frames = [np.zeros((20, 30, 3), np.uint8)] * 2
    with pytest.raises(ImportError, match=r'pip install -e Cutie[\s\S]*cutie-base-mega.pth'):
        model.predict(dict(reader=[ArrayReader(frames)]), [sample()])


@pytest.mark.skipif(not INSTALLED, reason='the package cutie is not installed: '
                    'https://github.com/hkchengrex/Cutie')
@pytest.mark.skipif('GLUS_MM_CUTIE' not in os.environ,
                    reason='GLUS_MM_CUTIE does not name the file of Cutie\'s weights')
def test_a_square_that_moves(config):
    """Cutie follows what it is given on the key frame, both ways."""
    config.model.test_cfg.propagator.checkpoint = os.environ['GLUS_MM_CUTIE']
    model = build_child(MODELS, config.model).eval().prepare()
    frames = [np.full((96, 128, 3), 40, np.uint8) for _ in range(9)]
    truth = torch.zeros(9, 96, 128, dtype=torch.bool)
    for t, frame in enumerate(frames):
        frame[30:60, 8 * t:8 * t + 40] = (250, 60, 30)
        truth[t, 30:60, 8 * t:8 * t + 40] = True
    session = model.init_session(ArrayReader(frames), sample())
    tracker = model.propagator.tracker(model, session)
    state = tracker.start(4, truth[4:5])
    for t in (5, 6, 7, 8, 3, 2, 1, 0):
        logits, scores = tracker.track(t, state, reverse=t < 4)
        mask = logits[0] > 0
        assert (mask & truth[t]).sum() / (mask | truth[t]).sum() > 0.8
        assert 0.5 < scores[0] <= 1
