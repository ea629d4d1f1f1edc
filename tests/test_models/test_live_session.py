"""A live source: the offline masks where both see the same, texts that come and go, bounds."""

import numpy as np
import pytest
import torch

from glus_mm.models.inference import ArrayReader, FrameError
from glus_mm.models.propagators import FoldPropagator
from glus_mm.models.propagators.live_session import LiveSession
from glus_mm.utils.frames import clip_centres

TEXTS = ('the red circle', 'the big blue square that moves to the left', 'all stars')
LENGTH = 8


@pytest.fixture(scope='module', params=[2, 16], ids=['chunks', 'one batch'])
def model(request, make_glus, emit_seg, video):
    """A model in float64 that says [SEG] at some of the steps, with a window shorter than video."""
    options = {'test_cfg.window': 3, 'test_cfg.max_expressions': request.param,
               'test_cfg.prefetch': 0}
    return emit_seg(make_glus(options), video, TEXTS, always=False)


def offline(model, video, make_sample, texts, start=0):
    """Predictions of the offline propagation from a frame on."""
    session = model.init_session(ArrayReader(video), make_sample(texts))
    with torch.inference_mode():
        return [pred for _, pred in model.propagate(session, range(len(texts)), start)]


def assert_same(found, expected):
    assert torch.equal(found.is_seg, expected.is_seg)
    assert torch.equal(found.masks, expected.masks)
    torch.testing.assert_close(found.seg_tokens, expected.seg_tokens, rtol=0, atol=1e-12)
    torch.testing.assert_close(found.low_res_logits, expected.low_res_logits, rtol=0, atol=1e-12)
    torch.testing.assert_close(found.scores, expected.scores, rtol=0, atol=1e-12)


def row(pred, e):
    """The prediction of one text."""
    return type(pred)(**{name: getattr(pred, name)[e:e + 1]
                         for name in type(pred).__dataclass_fields__})


@torch.inference_mode()
def test_texts_added_later_are_propagated_from_there(model, video, make_sample):
    """At frames of every remainder by the memory stride, and one text is dropped."""
    session = LiveSession(model, [video[t] for t in clip_centres(LENGTH, 4)])
    starts = {0: 0, 1: 1, 2: 2}
    expected = {e: offline(model, video, make_sample, [TEXTS[e]], start)
                for e, start in starts.items()}
    for t, frame in enumerate(video):
        for e, start in starts.items():
            if t == start:
                assert session.add(TEXTS[e]) == e
        if t == 5:
            del session.tracks[1]
        pred = session.step(frame)
        active = list(session.tracks)
        assert len(pred.masks) == len(active)
        for i, e in enumerate(active):
            assert_same(row(pred, i), expected[e][t - starts[e]])


@torch.inference_mode()
def test_context_comes_from_the_past(model, video, make_sample):
    """At the first frame that is the offline run over this frame alone, which sees as much."""
    session = LiveSession(model, context_growth=1)
    session.add(TEXTS[0])
    assert_same(session.step(video[0]), offline(model, video[:1], make_sample, TEXTS[:1])[0])
    for frame in video[1:]:
        session.step(frame)
    # A text that is added at the last frame has the context frames of an offline run.
    late = LiveSession(model, context_growth=1)
    for frame in video[:-1]:
        assert late.step(frame).masks.shape == (0, 40, 56)
    late.add(TEXTS[1])
    assert_same(late.step(video[-1]),
                offline(model, video, make_sample, [TEXTS[1]], LENGTH - 1)[0])


@torch.inference_mode()
def test_memory_is_bounded(model, video):
    session = LiveSession(model)
    for text in TEXTS[:2]:
        session.add(text)
    sizes = []
    for t in range(37):
        session.step(video[t % LENGTH])
        sizes.append((len(session.visual_tokens), len(session._seen),
                      max(len(track.memory) for track in session.tracks.values())))
    assert np.max(sizes, 0).tolist() == np.max(sizes[:34], 0).tolist()
    assert np.max(sizes, 0)[:2].tolist() == [3, 32]


def test_wrong_use(model, video, monkeypatch):
    session = LiveSession(model)
    session.add(TEXTS[0])
    session.step(video[0])
    with pytest.raises(FrameError, match=r'frame 1 of the stream: expected \(H, W\) = \(40, 56\) '
                                         r'as the frames before, got \(56, 40\)') as error:
        session.step(video[1].transpose(1, 0, 2))
    assert error.value.frame_idx == 1
    with pytest.raises(FrameError, match='frame 1 of the stream: expected an RGB frame'):
        session.step(video[1].astype(np.float32))
    assert session.num_frames == 1
    session.step(video[1])
    with pytest.raises(ValueError, match='context frame 0: expected an RGB frame'):
        LiveSession(model, ['text'] * 4)
    monkeypatch.setattr(model, 'propagator', FoldPropagator())
    with pytest.raises(ValueError, match='propagator=None, got FoldPropagator'):
        LiveSession(model)
