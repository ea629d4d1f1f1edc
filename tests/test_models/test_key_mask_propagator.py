"""What every tracker behind KeyMaskPropagator may rely on; the example of docs/propagators.md."""

import importlib
import re

import pytest
import torch

from glus_mm.models.inference import ArrayReader
from glus_mm.models.propagators import KeyMaskPropagator, MaskTracker
from glus_mm.registry import MODELS
from programs import ROOT


class Still(MaskTracker):
    """Nothing ever moves."""

    def __init__(self):
        self.calls = []

    def start(self, frame_idx, masks):
        assert masks.flatten(1).any(1).all()
        self.calls.append([frame_idx])
        return frame_idx, masks, self.calls[-1]

    def track(self, frame_idx, state, reverse):
        key, masks, calls = state
        calls.append(frame_idx)
        assert reverse == (frame_idx < key)
        return masks * 20.0 - 10.0, torch.full((len(masks), ), 0.5)


@MODELS.register_module()
class StillTestPropagator(KeyMaskPropagator):

    def tracker(self, model, session):
        self.last = Still()
        return self.last


@pytest.fixture(scope='module')
def model(talking):
    return talking({'test_cfg.propagator': dict(type='StillTestPropagator'),
                    'test_cfg.max_expressions': 2})


@pytest.mark.parametrize('keys', [[0, 0, 0], [7, 7, 7], [3, 3, 3], [5, 0, 2]])
def test_every_frame_once_from_the_key_frame_on(model, video, make_sample, keys):
    session = model.init_session(ArrayReader(video), make_sample())
    seen = {}
    for t, exps, pred in model.segment(session, keys):
        for i, e in enumerate(exps):
            assert (e, t) not in seen
            seen[e, t] = pred.masks[i], pred.low_res_logits[i], pred.scores[i], pred.is_seg[i]
    assert len(seen) == 3 * 8
    for (e, t), (mask, logits, score, is_seg) in seen.items():
        key_mask = seen[e, keys[e]][0]
        assert torch.equal(mask, key_mask) and mask.shape == (40, 56) and is_seg
        if t != keys[e]:
            assert score == 0.5 and logits.shape == (16, 16)
    for key, *frames in model.propagator.last.calls:
        assert frames == [*range(key + 1, 8), *range(key - 1, -1, -1)]
    # Two expressions at a time.
    assert len(model.propagator.last.calls) == {1: 2, 3: 3}[len(set(keys))]


def test_trackers(make_glus, video, make_sample, emit_seg, tmp_path, monkeypatch):
    model = make_glus({'test_cfg.propagator': dict(type='StillTestPropagator')})
    session = model.init_session(ArrayReader(video), make_sample())
    preds = list(model.segment(session, [2, 4, 4]))
    assert sum(len(exps) for _, exps, _ in preds) == 3 * 8
    assert not any(pred.masks.any() or pred.scores.any() or pred.is_seg.any()
                   for _, _, pred in preds)
    assert model.propagator.last.calls == []
    text = (ROOT / 'docs' / 'propagators.md').read_text()
    (tmp_path / 'my_project').mkdir()
    (tmp_path / 'my_project' / 'shift.py').write_text(
        re.search(r'```python\n(# my_project/shift.py\n.*?)```', text, re.DOTALL).group(1))
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.import_module('my_project.shift')
    model = make_glus({'test_cfg.propagator': dict(type='StillPropagator')})
    MODELS.module_dict.pop('StillPropagator')
    session = emit_seg(model, video).init_session(ArrayReader(video), make_sample(['a star']))
    masks = [pred.masks for _, _, pred in model.segment(session, [3])]
    assert len(masks) == 8 and all(torch.equal(mask, masks[0]) for mask in masks)
