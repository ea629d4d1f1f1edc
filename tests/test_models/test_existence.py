"""``model.existence='answer'``: training and inference say alike that nothing is there."""

import pytest
import torch
from official_order import OFFICIAL, train_officially

from glus_mm.models.inference import ArrayReader
from glus_mm.models.propagators.live_session import LiveSession
from glus_mm.structures import RefVOSDataSample
from glus_mm.text.prompt import (
    TEMPLATES,
    absent_id,
    build_conversation,
    build_prompt,
    load_tokenizer,
    replace_answers,
)

CONTEXT, QUERY = (0, 2, 4, 6), (0, 1, 2, 3)
ANSWER = {'existence': 'answer', 'test_cfg.memory_stride': 1}


def absent_on(samples, frames):
    """Take the object of expression e away on ``frames[e]``."""
    for e, absent in frames.items():
        samples[0].gt_masks[e, list(absent)] = 0
    return samples


def run(model, frames, sample, **starts):
    """Predictions by (expression, frame)."""
    session = model.init_session(ArrayReader(frames), sample)
    out = {}
    for t, exps, pred in model.segment(session, **starts):
        for i, e in enumerate(exps):
            out[e, t] = {name: getattr(pred, name)[i] for name in (
                'masks', 'low_res_logits', 'seg_tokens', 'is_seg', 'presence')}
    return out


# Texts


@pytest.mark.parametrize('name', ['compact'])
def test_both_answers_are_equally_long_and_part_where_the_token_is_predicted(name):
    template = TEMPLATES[name]
    tokenizer = load_tokenizer('tiny', template)
    absent = absent_id(tokenizer, template)
    assert tokenizer.decode([absent]) == 'not'
    ids, _ = build_conversation(tokenizer, template, 'the star that is not red', 2, [0, 0], [0, 0])
    other = replace_answers(ids.tolist(), [True, False], tokenizer.seg_id, absent)
    changed = [i for i, (a, b) in enumerate(zip(ids.tolist(), other)) if a != b]
    assert len(other) == len(ids) and [other[i] for i in changed] == [absent]
    # What is open at inference is what training showed up to there.
    prompt = build_prompt(tokenizer, template, 'the star that is not red', 2, 2, [True])
    assert prompt == ids[:changed[0]].tolist()
    prompt = build_prompt(tokenizer, template, 'the star that is not red', 2, 3, [True, False])
    assert prompt[:len(other)] == other


def test_texts_that_need_a_token():
    template = TEMPLATES['llava_v1']
    tokenizer = load_tokenizer('tiny', template)
    as_published = build_prompt(tokenizer, template, 'the star', 1, 1)
    answered = build_prompt(tokenizer, TEMPLATES['compact'], 'the star', 1, 1, [])
    ids, _ = build_conversation(tokenizer, template, 'the star', 1, [0], [3])
    assert as_published[:-1] == ids[:len(as_published) - 1].tolist()
    assert answered == build_prompt(tokenizer, TEMPLATES['compact'], 'the star', 1, 1)
    # One piece of a LLaMA vocabulary; the shipped tokenizer spells it.
    with pytest.raises(ValueError, match=r"the word 'none' .*'llava_v1'.* one token.* makes 3"):
        build_prompt(tokenizer, template, 'the star', 1, 1, [])
    template = TEMPLATES['compact']
    tokenizer = load_tokenizer('tiny', template)
    with pytest.raises(ValueError, match='expected 1 answers in the conversation.* but got 2'):
        build_prompt(tokenizer, template, 'the star', 1, 3, [True])


@pytest.mark.parametrize('options, match', [
    ({'existence': 'maybe'}, r"model\.existence must be one of \('mask', 'answer'\), got 'maybe'"),
    ({'existence': 'answer', 'mllm.template': 'llava_v1'}, "the word 'none'"),
    ({'existence': 'answer', 'mllm.template': 'selector_compact'},
     "'selector_compact' has no answer for a frame without the object"),
    ({'existence': 'answer', 'token_update': dict(type='TokenUpdate')},
     "model.existence='mask' and model.train_cfg.click_prob=0 with it, got 'answer' and 0.0"),
    ({'test_cfg.seg_threshold': 2}, r'seg_threshold must be None or a number in 0\.\.1, got 2'),
])
def test_refused_settings(make_glus, options, match):
    with pytest.raises(ValueError, match=match):
        make_glus(options)


# Training


@pytest.fixture(scope='module')
def batch_of(make_batch, video):

    def make(model, frames, expressions=('the red circle', 'a star')):
        inputs, samples = make_batch(model, [(video, expressions, CONTEXT, QUERY)])
        return inputs, absent_on(samples, frames)

    return make


@pytest.mark.parametrize('ce_target, number', [('seg', 8), ('answer', None)])
@pytest.mark.parametrize('officially', [False, True])
def test_the_other_answer_is_supervised(make_glus, batch_of, ce_target, number, officially):
    model = train_officially(make_glus({**ANSWER, 'ce_target': ce_target}), officially)
    inputs, samples = batch_of(model, {0: [0, 3]})
    said = [torch.tensor([[False, True, True, False], [True] * 4])]
    _, logits, targets, tokens, *_ = model._forward(inputs, samples, said)
    tokenizer = model.mllm.tokenizer
    absent = absent_id(tokenizer, model.mllm.template)
    assert number is None or len(targets) == number
    assert (targets == tokenizer.seg_id).sum() == 6 and (targets == absent).sum() == 2
    assert tokens.shape == (2, 4, 32)
    loss = model.loss(inputs, samples)['loss_ce']
    expected = torch.nn.functional.cross_entropy(logits.float(), targets)
    assert torch.allclose(loss, expected)


def test_frames_without_the_object_have_no_mask_loss(make_glus, batch_of):
    model = make_glus(ANSWER)
    inputs, samples = batch_of(model, {0: [1, 2], 1: [0]})
    losses = model.loss(inputs, samples)
    said = torch.tensor([[True, False, False, True], [False, True, True, True]])
    logits = model._forward(inputs, samples, [said])[0]
    full = torch.nn.functional.interpolate(
        logits, samples[0].gt_masks.shape[-2:], mode='bilinear', align_corners=False)
    expected = model.loss_mask_bce(full[said], samples[0].gt_masks[said]).mean()
    assert torch.allclose(losses['loss_mask_bce'], expected)
    model = make_glus({**ANSWER, 'loss_iou': dict(type='MaskIoULoss')})
    inputs, samples = batch_of(model, {0: QUERY, 1: QUERY})
    losses = model.loss(inputs, samples)
    assert {name: value.item() for name, value in losses.items() if name != 'loss_ce'} == dict(
        loss_mask_bce=0, loss_mask_dice=0, loss_iou=0)
    sum(losses.values()).backward()
    assert losses['loss_ce'] > 0 and model.mllm.lm_head.weight.grad.any()


def test_the_contrastive_loss_leaves_these_frames_out(make_glus, batch_of):
    model = make_glus({**ANSWER, 'loss_contrastive': dict(
        type='ObjectContrastiveLoss', num_negatives=1)})
    inputs, samples = batch_of(model, {0: [1, 2], 1: [0]})
    samples[0].set_metainfo(dict(object_ids=(('1', ), ('2', )), query_frame_ids=list(QUERY)))
    model.loss(inputs, samples)
    assert len(model.loss_contrastive.bank) == 5


def test_one_token_for_a_video_is_said_where_any_frame_shows_the_object(make_glus, make_batch,
                                                                        video):
    model = make_glus({**ANSWER, 'train_cfg.one_token_seg_all': True})
    inputs, samples = make_batch(model, [(video, ['the red circle', 'a star'], CONTEXT, QUERY)])
    texts = [build_conversation(model.mllm.tokenizer, model.mllm.template, text, 4, [0], [0])
             for text in samples[0].expressions]
    inputs['input_ids'], inputs['labels'] = ([[text[i] for text in texts]] for i in (0, 1))
    absent_on(samples, {0: QUERY, 1: [0, 1, 2]})
    losses = model.loss(inputs, samples)
    logits = model._forward(inputs, samples, [torch.tensor([[False] * 4, [True] * 4])])[0]
    full = torch.nn.functional.interpolate(
        logits[1:], samples[0].gt_masks.shape[-2:], mode='bilinear', align_corners=False)
    expected = model.loss_mask_bce(full[0], samples[0].gt_masks[1]).mean()
    assert torch.allclose(losses['loss_mask_bce'], expected)


# Inference


@pytest.fixture(scope='module')
def wavering(make_glus, emit_seg, video):
    """Models that say [SEG] on some frames only: ``wavering(options)``."""

    def make(options=None):
        return emit_seg(make_glus({**ANSWER, **(options or {})}), video, always=False)

    return make


@pytest.mark.parametrize('window', [4, 8])
def test_training_sees_what_inference_sees(wavering, make_batch, make_sample, video, window):
    """With the answers that inference gave, training has the same tokens, masks and memory."""
    model = wavering({'test_cfg.window': window})
    sample = make_sample()
    out = run(model, video, sample)
    number = min(window, len(video))
    is_seg = torch.tensor([[out[e, t]['is_seg'].item() for t in range(number)] for e in range(3)])
    assert is_seg.any() and not is_seg.all()
    context = model.init_session(ArrayReader(video), sample).context_frame_ids
    inputs, _ = make_batch(model, [(video, sample.expressions, context, range(number))])
    with torch.no_grad():
        logits, _, _, tokens, *_ = model._forward(inputs, None, [is_seg])
    for e in range(3):
        for t in range(number):
            assert torch.allclose(tokens[e, t], out[e, t]['seg_tokens'], atol=1e-9)
            if is_seg[e, t]:
                assert torch.allclose(logits[e, t], out[e, t]['low_res_logits'], atol=1e-8)
            else:
                assert not out[e, t]['masks'].any()
                assert out[e, t]['low_res_logits'].isneginf().all()


def test_the_history_depends_on_the_answers(wavering, make_glus, video, make_sample):
    model = wavering()
    out = run(model, video, make_sample())
    model.existence = 'mask'
    other = run(model, video, make_sample())
    first = {e: next((t for t in range(8) if not out[e, t]['is_seg']), 8) for e in range(3)}
    assert min(first.values()) < 7
    for (e, t), pred in out.items():
        same = torch.allclose(pred['seg_tokens'], other[e, t]['seg_tokens'], atol=1e-9)
        assert same or t > first[e]
    assert any(not torch.allclose(out[e, t]['seg_tokens'], other[e, t]['seg_tokens'], atol=1e-6)
               for e, t in out)


def test_expressions_do_not_disturb_each_other(wavering, video, make_sample):
    """Different histories in a batch, key frames and both directions."""
    model, names = wavering(), make_sample().expressions
    together = run(model, video, make_sample(), key_frames=[3, 0, 5])
    official = wavering({'test_cfg.propagator': OFFICIAL})
    for e, key in enumerate([3, 0, 5]):
        for other in (model, official):
            alone = run(other, video, make_sample([names[e]]), key_frames=[key])
            for t in range(len(video)):
                assert together[e, t]['is_seg'] == alone[0, t]['is_seg']
                for name in ('seg_tokens', 'presence'):
                    assert torch.allclose(together[e, t][name], alone[0, t][name], atol=1e-6)


def test_a_live_session_has_the_same_history(wavering, video, make_sample):
    model = wavering()
    sample = make_sample()
    out = run(model, video, sample)
    session = model.init_session(ArrayReader(video), sample)
    live = LiveSession(model, [video[t] for t in session.context_frame_ids])
    for text in sample.expressions:
        live.add(text)
    for t, frame in enumerate(video):
        pred = live.step(frame)
        for e in range(3):
            assert torch.allclose(pred.seg_tokens[e], out[e, t]['seg_tokens'], atol=1e-9)
            assert pred.is_seg[e] == out[e, t]['is_seg']
            assert torch.allclose(pred.presence[e], out[e, t]['presence'])


@pytest.mark.parametrize('stride', [2, 4])
def test_blocks_of_frames_have_true_histories(wavering, make_batch, make_sample, video, stride):
    """A block ends where an answer is another one than it took for granted."""
    model = wavering({'test_cfg.window_stride': stride})
    sample = make_sample()
    out = run(model, video, sample)
    context = model.init_session(ArrayReader(video), sample).context_frame_ids
    for e, text in enumerate(sample.expressions):
        answers, start = [out[e, t]['is_seg'].item() for t in range(8)], 0
        while start < 8:  # the blocks, worked out by hand
            block = range(start, min(start + stride, 8))
            expected = answers[start - 1] if start else True
            wrong = next((t for t in block if answers[t] != expected), block[-1])
            old = min(start, 4 - len(block))
            window = range(start - old, start + len(block))
            said = [[*answers[window[0]:wrong + 1], *[True] * (window[-1] - wrong)]]
            inputs, _ = make_batch(model, [(video, [text], context, window)])
            with torch.no_grad():
                tokens = model._forward(inputs, None, [torch.tensor(said)])[3][0]
            for t in range(start, wrong + 1):
                assert torch.allclose(tokens[t - window[0]], out[e, t]['seg_tokens'], atol=1e-9)
            start = wrong + 1


@pytest.mark.parametrize('window', [1, 3])
def test_turns_that_a_stream_keeps_hold_the_answer_that_was_given(
        wavering, make_batch, make_sample, video, window):
    """As training with the same window has it, offline and live."""
    model = wavering({'test_cfg.window': window, 'test_cfg.window_cache': 'turns',
                      'train_cfg.attention': 'window'})
    sample = make_sample()
    out = run(model, video, sample)
    is_seg = torch.tensor([[out[e, t]['is_seg'].item() for t in range(8)] for e in range(3)])
    assert is_seg[:, :-1].any() and not is_seg[:, :-1].all()
    stream = torch.stack([torch.stack([out[e, t]['seg_tokens'] for t in range(8)])
                          for e in range(3)])
    context = model.init_session(ArrayReader(video), sample).context_frame_ids
    inputs, _ = make_batch(model, [(video, sample.expressions, context, range(8))])
    with torch.no_grad():
        answered, always = (model._forward(inputs, None, [said])[3]
                            for said in (is_seg, torch.ones_like(is_seg)))
    assert torch.allclose(stream, answered, atol=1e-5)
    # Of the turn before, a window of one frame sees nothing.
    assert torch.allclose(stream, always, atol=1e-5) == (window == 1)
    live = LiveSession(model, [video[t] for t in context])
    for text in sample.expressions:
        live.add(text)
    for t, frame in enumerate(video):
        pred = live.step(frame)
        assert torch.allclose(pred.seg_tokens, stream[:, t], atol=1e-9)
        assert torch.equal(pred.is_seg, is_seg[:, t])


# Presence


def test_presence(wavering, make_sample, video):
    sample = make_sample()
    presence = {key: pred['presence'].item() for key, pred in run(
        wavering({'existence': 'mask'}), video, sample).items()}
    assert all(0 <= value <= 1 for value in presence.values())
    middle = sorted(presence.values())[len(presence) // 2]
    for threshold in (0, middle, 1):
        out = run(wavering({'existence': 'mask', 'test_cfg.seg_threshold': threshold}),
                  video, sample)
        for key, pred in out.items():
            assert pred['presence'].item() == pytest.approx(presence[key])
            assert pred['is_seg'] == (presence[key] >= threshold)
    model = wavering({'existence': 'mask'})
    logits = []
    handle = model.mllm.lm_head.register_forward_hook(lambda _, args, out: logits.append(out))
    session = model.init_session(ArrayReader(video), make_sample(['a star']))
    _, _, pred = next(iter(model.segment(session)))
    handle.remove()
    expected = logits[-1][0].float().softmax(-1)[model.mllm.tokenizer.seg_id]
    assert torch.allclose(pred.presence[0], expected)
    sample = RefVOSDataSample(metainfo=dict(
        dataset='toy', video_id='v', exp_ids=('0', ), expressions=('a star', )))
    out, = model.predict(dict(reader=[ArrayReader(video)]), [sample])
    assert out.pred_presence.shape == (1, 8) and torch.allclose(out.pred_presence[0, 0], expected)


# The expected IoU


def test_the_expected_iou_is_trained_on_visible_objects(make_glus, batch_of):
    model = make_glus({'loss_iou': dict(type='MaskIoULoss', loss_weight=2.0)})
    assert model.trained_scores == ('scores', )
    assert make_glus(ANSWER).trained_scores == ('presence', )
    inputs, samples = batch_of(model, {0: [1, 2], 1: [0]})
    loss = model.loss(inputs, samples)['loss_iou']
    logits, _, _, _, scores, _ = model._forward(inputs)
    target = samples[0].gt_masks > 0
    full = torch.nn.functional.interpolate(
        logits, target.shape[-2:], mode='bilinear', align_corners=False) > 0
    iou = (full & target).flatten(2).sum(2) / (full | target).flatten(2).sum(2)
    visible = target.flatten(2).any(2)
    assert visible.sum() == 5
    assert torch.allclose(loss, 2 * (scores - iou).abs()[visible].mean())
    loss.backward()
    decoder = model.mask_head.sam2.sam_mask_decoder
    assert all(layer.weight.grad.any() for layer in decoder.iou_prediction_head.layers)
    # As in the training of SAM-2 the gradient is not stopped at the head.
    assert decoder.iou_token.weight.grad.any() and model.mllm.seg_projector[0].weight.grad.any()
