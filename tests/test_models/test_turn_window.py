"""A window of turns that stay: training and streaming compute the same."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from official_order import train_officially

from glus_mm.apis import GLUSInferencer, init_model
from glus_mm.models.inference import ArrayReader
from glus_mm.models.mllms.layout import lay_out
from glus_mm.models.propagators.live_session import LiveSession
from programs import ROOT

WINDOW = 3
STREAM = {'test_cfg.window': WINDOW, 'test_cfg.window_cache': 'turns', 'test_cfg.num_context': 2}
TRAINED = {**STREAM, 'train_cfg.attention': 'window'}
TEXTS = ('the red circle', 'the big blue square that moves to the left')


@pytest.fixture(scope='module')
def long_video(long_video):
    """Three windows."""
    return long_video[:9]


def in_float64(module, args, kwargs, output):
    """Rotary tables in the type of the states; transformers computes them in float32."""
    states, places = args[0], (args[1:] or [kwargs['position_ids']])[0]
    if states.dtype != torch.float64:
        return output
    angles = places[..., None].double() * module.inv_freq.double()
    angles = torch.cat([angles, angles], -1)
    return angles.cos(), angles.sin()


def exact_rotary(model):
    model.mllm.llm.rotary_emb.register_forward_hook(in_float64, with_kwargs=True)
    return model


def streamed(model, frames, sample, start=0, reverse=False):
    """Seg tokens (E, T, C) of a pass, and the session."""
    session = model.init_session(ArrayReader(frames), sample)
    exps = range(len(session.expressions))
    predictions = [pred for _, pred in model.propagate(session, list(exps), start, reverse)]
    return torch.stack([pred.seg_tokens for pred in predictions], 1), session


def trained(model, frames, make_batch, context, query, texts=TEXTS):
    """Seg tokens (E, Tq, C) of one forward pass of training."""
    inputs, samples = make_batch(model, [(frames, texts, context, query)])
    with torch.no_grad():
        return model._forward(inputs, samples)[3]


@pytest.mark.parametrize(('dtype', 'limit'), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_training_computes_what_a_stream_does(make_glus, make_batch, make_sample, long_video,
                                              dtype, limit):
    model = exact_rotary(make_glus(TRAINED, dtype))
    stream, session = streamed(model, long_video, make_sample(TEXTS))
    whole = trained(model, long_video, make_batch, session.context_frame_ids, range(9))
    assert (stream - whole).abs().max() < limit * whole.abs().max()
    # Beyond the first window that is not what attention to all turns gives, nor the schedule
    # without a cache; within it, it is both.
    full = trained(exact_rotary(make_glus(dict(STREAM), dtype)), long_video, make_batch,
                   session.context_frame_ids, range(9))
    assert (full - whole)[:, :WINDOW].abs().max() < limit * whole.abs().max()
    assert (full - whole)[:, WINDOW:].abs().amax((0, 2)).min() > 1e-3 * whole.abs().max()
    model.test_cfg = replace(model.test_cfg, window_cache='none')
    slid, _ = streamed(model, long_video, make_sample(TEXTS))
    assert (slid - whole)[:, :WINDOW].abs().max() < limit * whole.abs().max()
    assert (slid - whole)[:, WINDOW:].abs().amax((0, 2)).min() > 1e-3 * whole.abs().max()


def test_backward_and_without_sharing(make_glus, make_batch, make_sample, long_video):
    model = exact_rotary(make_glus(TRAINED))
    stream, session = streamed(model, long_video, make_sample(TEXTS), 7, reverse=True)
    whole = trained(model, long_video, make_batch, session.context_frame_ids, range(7, -1, -1))
    assert (stream - whole).abs().max() < 1e-12 * whole.abs().max()
    shared, alone = (train_officially(exact_rotary(make_glus(TRAINED)), officially)
                     for officially in (False, True))
    tokens = [trained(model, long_video, make_batch, [0, 5], range(9)) for model in (shared, alone)]
    assert (tokens[0] - tokens[1]).abs().max() < 1e-12 * tokens[0].abs().max()


def test_gradients_reach_what_a_turn_attends_to_and_no_further(make_glus, make_batch, long_video):
    """One layer: turn 8 depends on turns 6 to 8 and the context; more layers see further back."""
    model = make_glus({**TRAINED, 'mllm.llm.num_hidden_layers': 1})
    inputs, samples = make_batch(model, [(long_video, TEXTS[:1], [0, 5], range(9))])
    inputs['clip_imgs'][0].requires_grad_()
    model._forward(inputs, samples)[3][0, 8].sum().backward()
    reached = inputs['clip_imgs'][0].grad.abs().flatten(1).amax(1) > 0
    assert reached.tolist() == [True] * 2 + [False] * 6 + [True] * 3


@pytest.mark.parametrize('options', [{}, {'max_expressions': 1}, {'window': 1}])
def test_key_frames_and_batches(make_glus, make_sample, long_video, options):
    """All expressions in one pass, each from its key frame on, as each by itself."""
    model = make_glus({**STREAM, **{f'test_cfg.{key}': value for key, value in options.items()}})
    reader, keys = ArrayReader(long_video), [2, 0, 6]
    sample = make_sample((*TEXTS, 'all stars'))
    together = {(t, e): pred.seg_tokens[row] for t, exps, pred in model.segment(
        model.init_session(reader, sample), keys) for row, e in enumerate(exps)}
    assert len(together) == 3 * len(long_video)
    for e, key in enumerate(keys):
        alone = make_sample([sample.expressions[e]])
        for t, _, pred in model.segment(model.init_session(reader, alone), [key]):
            torch.testing.assert_close(pred.seg_tokens[0], together[t, e], rtol=0, atol=1e-9)


def test_live_source(make_glus, make_sample, long_video):
    """A text of a live source with fixed context frames is a stream of its own."""
    model = make_glus(STREAM)
    sample = make_sample(TEXTS)
    expected, session = streamed(model, long_video, sample)
    live = LiveSession(model, [long_video[t] for t in session.context_frame_ids])
    live.add(TEXTS[0])
    tokens = []
    for t, frame in enumerate(long_video):
        if t == 4:
            live.add(TEXTS[1])
        tokens.append(live.step(frame).seg_tokens)
    torch.testing.assert_close(torch.stack([row[0] for row in tokens]), expected[0], rtol=0,
                               atol=1e-9)
    late, _ = streamed(model, long_video, sample, start=4)
    torch.testing.assert_close(torch.stack([row[1] for row in tokens[4:]]), late[1], rtol=0,
                               atol=1e-9)
    assert len(live.tracks[0].kept.lengths) == WINDOW


def test_bounds_and_published_prompts(make_glus, make_sample, long_video):
    model = make_glus(STREAM)
    live = LiveSession(model)
    live.add(TEXTS[0])
    sizes = []
    for frame in long_video * 2:
        live.step(frame)
        sizes.append(live.tracks[0].kept.states.shape[3])
    assert sizes == sorted(sizes)
    assert len(set(sizes[WINDOW:])) == 1
    # Their open answer ends with a token that the history does not have.
    published = {**STREAM, 'mllm.template': 'llava_v1'}
    model, slid = make_glus(published), make_glus({**published, 'test_cfg.window_cache': 'none'})
    stream, _ = streamed(model, long_video, make_sample(TEXTS))
    expected, _ = streamed(slid, long_video, make_sample(TEXTS))
    difference = (stream - expected).abs().amax((0, 2)) / expected.abs().max()
    assert difference[:WINDOW].max() < 1e-9
    assert difference[WINDOW:].min() > 1e-6


@torch.no_grad()
def test_turns_that_were_answered_otherwise(make_glus):
    """A turn's end is run anew where another answer came than the one before it got."""
    mllm = exact_rotary(make_glus(STREAM)).mllm
    seg_id, other_id, turns, others = mllm.tokenizer.seg_id, 5, 9, {1, 2, 5, 7}
    visual = torch.randn(1 + turns, 4, 32, dtype=torch.float64)
    whole = mllm.prompt(TEXTS[0], 1, turns)
    answers = [place for place, index in enumerate(whole) if index == seg_id]
    for turn in others:
        whole[answers[turn]] = other_id
    hidden, index = mllm._conversation_states(
        [torch.tensor(whole)], [visual], None, WINDOW, [turns])
    hidden = hidden.flatten(0, 1)[index]
    ends = [place + 3 * (turn + 2) - 1 for turn, place in enumerate([*answers, len(whole)])]
    expected = mllm.seg_projector(hidden[0, ends])

    prompt = mllm.prompt(TEXTS[0], 1, 2)
    prompts = {said: [said if index == seg_id else index for index in prompt]
               for said in (seg_id, other_id)}
    prefix, kept = mllm.prefill(prompt[:mllm.split_prefix(prompt, 1)], visual[:1]), [None]
    for turn in range(turns):
        said = other_id if turn - 1 in others else seg_id
        seg, kept = mllm.next_turns([prompts[said]], 1, visual[turn + 1:turn + 2], prefix, kept,
                                    WINDOW)
        torch.testing.assert_close(seg.tokens[0], expected[turn], rtol=0, atol=1e-12)


def test_masks_of_a_stream():
    """Two conversations; the second has an open end that goes on from the first id."""
    layout = lay_out([3, 3, 2, 3], [3, 3, 2, 1], [0, 0, 1, 1], seen=2, kept=[2, 4], padded=4)
    assert layout.positions[0, :3].tolist() == [4, 5, 6]
    assert layout.positions[1].tolist() == [6, 7, 7, 8]
    rows = [[''.join('.x'[key] for key in query) for query in row[0]]
            for row in layout.mask().tolist()]
    assert rows[0][:3] == ['xxxx..x...', 'xxxx..xx..', 'xxxx..xxx.']
    assert rows[1] == ['xxxxxxx...', 'xxxxxxxx..', 'xxxxxxx.x.', 'xxxxxxx.xx']


@pytest.mark.parametrize(('options', 'message'), [
    ({'test_cfg.window_cache': 'all'}, "window_cache must be one of .*got 'all'"),
    ({'test_cfg.window_cache': 'turns', 'test_cfg.window_stride': 2}, 'window_stride=1.*got 2'),
    ({'train_cfg.attention': 'window', 'train_cfg.one_token_seg_all': True}, '_seg_all=False'),
    ({'train_cfg.attention': 'local'}, "attention must be one of .*got 'local'"),
    ({**TRAINED, 'mllm.llm.attn_implementation': 'eager'}, "'eager' and would have to be sdpa"),
    ({**TRAINED, 'mllm.llm.rope_parameters': dict(rope_type='dynamic', factor=2.0,
                                                  rope_theta=1e4)}, 'are no plain count'),
])
def test_what_cannot_be(make_glus, options, message):
    with pytest.raises(ValueError, match=message):
        make_glus(options)


def test_the_shipped_weights_that_stream():
    rng = np.random.default_rng(0)
    video = list(rng.integers(0, 80, (12, 128, 128, 3), dtype=np.uint8))
    truths = np.zeros((12, 128, 128), bool)
    for t, frame in enumerate(video):
        frame[60:90, 80:110] = (30, 30, 220)
        frame[20 + 5 * t:50 + 5 * t, 16:46] = (220, 30, 30)
        truths[t, 20 + 5 * t:50 + 5 * t, 16:46] = True
    name = 'glus_tiny_streaming_moving-shapes'
    model = init_model(name, ROOT / 'checkpoints' / f'{name}.pth')
    assert model.test_cfg.window_cache == 'turns'
    out = GLUSInferencer(model)(video, ['the red square', 'the blue square'])
    red, blue = np.array(out['masks'])
    assert (red & truths).sum() > 0.6 * (red | truths).sum()
    assert not (blue & truths).any() and blue[:, 60:90, 80:110].mean() > 0.6
