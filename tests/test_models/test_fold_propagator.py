"""Folds: which frames they have, and that each is a pass of its own with the video's context."""

import pytest
import torch

from glus_mm.models.propagators import FoldPropagator
from glus_mm.video import ArrayReader, ReorderedReader


@pytest.fixture(scope='module')
def model(talking):
    return talking()


def test_folds(make_glus, video, make_sample):
    spread, clips = FoldPropagator('spread'), FoldPropagator('consecutive')
    assert [list(f) for f in spread.folds(10, 4)] == [[0, 3, 6, 9], [1, 4, 7], [2, 5, 8]]
    assert [list(f) for f in clips.folds(10, 4)] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    for number in range(1, 30):
        for size in range(1, 9):
            for propagator in (spread, clips):
                folds = propagator.folds(number, size)
                assert sorted(t for fold in folds for t in fold) == list(range(number))
                assert max(map(len, folds)) <= size
    with pytest.raises(ValueError, match="one of .*'spread'.* got 'fold'"):
        FoldPropagator('fold')
    model = make_glus({'test_cfg.propagator': dict(type='FoldPropagator'), 'test_cfg.window': 3})
    assert isinstance(model.propagator, FoldPropagator)
    session = model.init_session(ArrayReader(video), make_sample())
    assert [t for t, _, _ in model.segment(session)] == [0, 3, 6, 1, 4, 7, 2, 5]
    with pytest.raises(ValueError, match=r'takes no key frames.* got \[0, 3, 0\]'):
        list(model.segment(session, [0, 3, 0]))


@pytest.mark.parametrize('frames', ['spread', 'consecutive'])
def test_each_fold_is_a_pass_of_its_own(model, video, make_sample, frames):
    """Equal to GLUS on a video that has the fold's frames, told the whole video's context."""
    sample, propagator = make_sample(), FoldPropagator(frames)
    session = model.init_session(ArrayReader(video), sample)
    got = {t: (exps, pred) for t, exps, pred in propagator.segment(model, session, [0, 0, 0])}
    assert sorted(got) == list(range(8)) and all(exps == [0, 1, 2] for exps, _ in got.values())
    other = FoldPropagator('spread' if frames == 'consecutive' else 'consecutive')
    context = session.context_frame_ids
    for fold in propagator.folds(8, model.test_cfg.window):
        rest = [t for t in range(8) if t not in fold]
        alone = model.init_session(ReorderedReader(ArrayReader(video), [*fold, *rest]), sample)
        alone.context_frame_ids = [[*fold, *rest].index(t) for t in context]
        for t, (_, pred) in zip(fold, model.propagate(alone, [0, 1, 2])):
            torch.testing.assert_close(got[t][1].low_res_logits, pred.low_res_logits,
                                       rtol=0, atol=1e-8)
    session = model.init_session(ArrayReader(video), sample)
    changed = [(got[t][1].low_res_logits - pred.low_res_logits).abs().max()
               for t, _, pred in other.segment(model, session, [0, 0, 0])]
    assert max(changed) > 1e-4
