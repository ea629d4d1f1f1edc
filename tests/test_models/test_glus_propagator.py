"""Expressions in lockstep: each frame encoded once, features kept within their bound."""

import gc
import shutil

import pytest
import torch
from official_order import OFFICIAL

from glus_mm.models.inference import ArrayReader
from glus_mm.models.propagators import frame_encoder

EXACT = dict(rtol=0, atol=1e-8)


def count(model):
    """Images that each encoder has seen: lists that grow."""
    seen = dict(vision=[], sam=[])
    model.mllm.vision_tower.register_forward_pre_hook(
        lambda _, args: seen['vision'].append(len(args[0])))
    model.mask_head.sam2.image_encoder.register_forward_pre_hook(
        lambda _, args: seen['sam'].append(len(args[0])))
    return seen


def run(model, frames, sample, key_frames=None):
    """Logits by expression and frame; each comes once."""
    session = model.init_session(ArrayReader(frames), sample)
    out = {}
    for t, exps, pred in model.segment(session, key_frames):
        for e, logits in zip(exps, pred.low_res_logits):
            assert (e, t) not in out
            out[e, t] = logits
    assert len(out) == len(frames) * len(sample)
    return out, session


def equal(some, other):
    for key, logits in some.items():
        torch.testing.assert_close(logits, other[key], **EXACT)


@pytest.mark.parametrize('key_frames', [[3, 3, 3], [0, 5, 2], [7, 7, 7], [7, 0, 4]])
def test_both_directions_share_the_features(talking, video, make_sample, key_frames):
    model = talking()
    seen = count(model)
    shared, session = run(model, video, make_sample(), key_frames)
    assert sum(seen['vision']) == sum(seen['sam']) == len(video)
    assert len(session.sam_features) <= 1 + max(key_frames) - min(key_frames) + 1
    equal(shared, run(talking({'test_cfg.propagator': OFFICIAL}), video, make_sample(),
                      key_frames)[0])


@pytest.mark.parametrize('options', [
    {'test_cfg.prefetch': 0}, {}, {'test_cfg.propagator': dict(type='OneTokenPropagator')}])
def test_images_are_made_for_those_who_read_them(talking, video, make_sample, monkeypatch, options):
    """One for each run of an encoder: none of SAM-2 for the context, which is in the pass too."""
    model = talking(options)
    made = dict(vision=0, sam=0)
    for name, function in (('vision', 'vision_tower_image'), ('sam', 'sam2_image')):
        real = getattr(frame_encoder, function)

        def counted(*args, name=name, real=real):
            made[name] += 1
            return real(*args)

        monkeypatch.setattr(frame_encoder, function, counted)
    seen = count(model)
    run(model, video, make_sample(), [0, 0, 0])
    ahead = model.test_cfg.prefetch * ('test_cfg.propagator' in options)  # of the key frame's run
    encoded = {name: sum(numbers) for name, numbers in seen.items()}
    assert all(encoded[name] <= made[name] <= encoded[name] + ahead for name in made)


@pytest.mark.parametrize('bound', [1, 2, 4])
def test_features_that_do_not_fit_are_computed_again(talking, video, make_sample, bound):
    """The frames that the backward pass meets first are kept: those before the last key frame."""
    model = talking({'test_cfg.feature_cache': bound})
    seen = count(model)
    key_frames = [2, 6, 6]
    shared, session = run(model, video, make_sample(), key_frames)
    assert sum(seen['sam']) == len(video) + (6 - 2 + 1) - bound
    assert len(session.sam_features) <= 1 + bound
    assert len(session.visual_tokens) <= model.test_cfg.window + 4 + bound, '4 of the context'
    equal(shared, run(talking(), video, make_sample(), key_frames)[0])


def test_options_that_change_no_number(talking, video, make_sample):
    key_frames = [1, 6, 3]
    expected = run(talking(), video, make_sample(), key_frames)[0]
    for options in ({'test_cfg.prefetch': 0}, {'test_cfg.prefetch': 50},
                    {'test_cfg.max_expressions': 1},
                    {'test_cfg.max_expressions': 2, 'test_cfg.prefetch': 1}):
        equal(run(talking(options), video, make_sample(), key_frames)[0], expected)


@pytest.mark.parametrize('key_frames', [[0, 0, 0], [5, 1, 1]])
def test_blocks_with_key_frames_and_chunks(talking, video, make_sample, key_frames):
    options = {'test_cfg.window_stride': 3, 'test_cfg.window': 4}
    together = run(talking(options), video, make_sample(), key_frames)[0]
    for e, key in enumerate(key_frames):
        sample = make_sample(make_sample().expressions[e:e + 1])
        alone = run(talking({**options, 'test_cfg.prefetch': 0}), video, sample, [key])[0]
        equal({(e, t): logits for (_, t), logits in alone.items()}, together)
    model = talking(options)
    seen = count(model)
    run(model, video, make_sample(), key_frames)
    assert sum(seen['vision']) == sum(seen['sam']) == len(video)


def test_a_long_video(talking, video, make_sample):
    class Broken(ArrayReader):
        def _read(self, frame_idx):
            if frame_idx == 6:
                raise ValueError('frame 6 is broken')
            return super()._read(frame_idx)

    model = talking({'test_cfg.num_context': 0})
    session, done = model.init_session(Broken(video), make_sample()), []
    with pytest.raises(ValueError, match='frame 6 is broken'):
        for t, _, _ in model.segment(session):
            done.append(t)
    assert done == list(range(6)), 'what comes before is not lost'
    # Bytes of all tensors that live, after 30 and after 60 frames: the caches are full by then.
    model = talking({'test_cfg.num_context': 2})
    session = model.init_session(ArrayReader(video * 8), make_sample())
    sizes = []
    with torch.inference_mode():
        for t, _, _ in model.segment(session):
            if t in (30, 60):
                gc.collect()
                sizes.append(sum(
                    tensor.untyped_storage().nbytes() for tensor in
                    {x.untyped_storage().data_ptr(): x for x in gc.get_objects()
                     if type(x) is torch.Tensor and x.layout == torch.strided}.values()))
    assert len(sizes) == 2 and sizes[1] <= sizes[0] * 1.001


@pytest.mark.slow
@pytest.mark.parametrize(('options', 'backend'), [
    ({}, 'aot_eager'), ({'test_cfg.window_stride': 2}, 'aot_eager'),
    ({'test_cfg.window_cache': 'turns'}, 'inductor')], ids=str)
def test_compiled_is_eager_within_rounding(talking, video, make_sample, monkeypatch, options,
                                           backend):
    """Key frames and growing memories; graphs are kernels only where there is a C++ compiler."""
    if backend == 'inductor' and shutil.which('g++') is None:
        backend = 'aot_eager'
    compiled = torch.compile
    monkeypatch.setattr(torch, 'compile', lambda part, mode=None: compiled(part, backend=backend))
    torch._dynamo.reset()
    model, plain = talking({**options, 'test_cfg.compile': True}), talking(options)
    assert model.mllm.vision_tower._compiled_call_impl is None, 'training is as it is'
    assert model.prepare().mllm.vision_tower._compiled_call_impl is not None
    assert set(model.state_dict()) == set(plain.state_dict())
    keys = [0, 2, 0][:len(make_sample())]
    found, expected = (run(one, video, make_sample(), keys)[0] for one in (model, plain))
    for key, logits in expected.items():  # SAM-2 rotates in float32 whatever the type
        torch.testing.assert_close(found[key], logits, rtol=0, atol=1e-5)
