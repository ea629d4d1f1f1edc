"""GLUS: training and testing decode alike, and what is shared between expressions is exact."""

import copy
import re

import numpy as np
import pytest
import torch
from official_order import OFFICIAL
from torch.nn import functional as F

from glus_mm.models.inference import ArrayReader
from glus_mm.models.segmentors.glus import GLUS
from glus_mm.utils.masks import decode_rle

# RoPE of the sam2 package computes in float32, whatever the model's type is.
EXACT = dict(rtol=0, atol=1e-8)


def run(model, frames, sample, key_frames=None):
    """Low-resolution logits (E, T, h, w) and is_seg (E, T) of a whole video."""
    session = model.init_session(ArrayReader(frames), sample)
    num_exp, side = len(sample), model.mask_head.image_size // 4
    logits = torch.full((num_exp, len(frames), side, side), torch.nan).double()
    is_seg = torch.zeros(num_exp, len(frames), dtype=torch.bool)
    for t, exps, pred in model.segment(session, key_frames):
        assert logits[exps, t].isnan().all(), 'a frame came twice'
        logits[exps, t], is_seg[exps, t] = pred.low_res_logits.double(), pred.is_seg
    assert not logits.isnan().any()
    return logits, is_seg


def predict(model, frames, sample):
    """Data sample with predictions; the masks also decoded, bool (E, T, H, W)."""
    out, = model.predict(dict(reader=[ArrayReader(frames)]), [copy.deepcopy(sample)])
    return out, np.array([[decode_rle(rle) for rle in rles] for rles in out.pred_masks])


def test_training_and_testing_decode_alike(talking, video, make_sample, make_batch):
    """Frames 0 to 3, taught and generated, with and without several videos in the batch."""
    model = talking({'test_cfg.memory_stride': 1})
    sample = make_sample()
    session = model.init_session(ArrayReader(video), sample)
    first = (video, sample.expressions, session.context_frame_ids, range(4))
    other = (video[::-1], sample.expressions[:1], [0, 1, 2, 3], range(2, 6))
    predicted = [pred for _, pred in zip(range(4), model.propagate(session, [0, 1, 2]))]
    logits = torch.stack([pred.low_res_logits for _, pred in predicted], 1)
    assert all(pred.is_seg.all() for _, pred in predicted)
    assert logits.flatten(2).std(2).min() > 1e-3
    for videos in ([first], [other, first]):
        with torch.no_grad():
            taught = model._forward(make_batch(model, videos)[0])[0]
        torch.testing.assert_close(taught[-3:], logits, **EXACT)


def test_memory_of_training(talking, video, make_sample, make_batch):
    sample = make_sample()
    for stride in (1, 2):
        model = talking({'test_cfg.memory_stride': stride, 'train_cfg.memory_stride': stride})
        assert model.train_cfg.memory_stride == stride
        context = model.init_session(ArrayReader(video), sample).context_frame_ids
        batch = make_batch(model, [(video[:4], sample.expressions, [0, 1, 2, 3], range(4))])
        with torch.no_grad():
            taught = model._forward(batch[0])[0]
        torch.testing.assert_close(taught, run(model, video[:4], sample)[0], **EXACT)
    assert context == [1, 3, 5, 7]
    sample, taught = make_sample(), {}
    for use_memory in (True, False):
        model = talking({'test_cfg.memory_stride': 1, 'test_cfg.use_memory': use_memory,
                         'train_cfg.use_memory': use_memory})
        batch = make_batch(model, [(video[:4], sample.expressions, [0, 1, 2, 3], range(4))])
        with torch.no_grad():
            taught[use_memory] = model._forward(batch[0])[0]
        torch.testing.assert_close(
            taught[use_memory], run(model, video[:4], sample)[0], **EXACT)
    torch.testing.assert_close(taught[True][:, 0], taught[False][:, 0], **EXACT)
    assert (taught[True][:, 1:] - taught[False][:, 1:]).abs().max() > 1e-3


def test_losses_are_means_over_masks_of_the_batch(make_glus, video, make_sample, make_batch):
    model = make_glus({'mllm.trainable': None})
    videos = [(video, ['the star'], [0, 2], range(4)),
              (video[::-1], ['a', 'both circles', 'c'], [0, 2], range(1, 5))]
    inputs, samples = make_batch(model, videos)
    samples[1].gt_masks = samples[1].gt_masks[..., :32]  # another width
    losses = model(inputs, samples, mode='loss')
    assert set(losses) == {'loss_ce', 'loss_mask_bce', 'loss_mask_dice'}
    logits, ce_logits, targets, *_ = model._forward(inputs)
    bce, dice = [], []
    for rows, sample in ((logits[:1], samples[0]), (logits[1:], samples[1])):
        for row, masks in zip(rows, sample.gt_masks):
            for small, mask in zip(row, masks.double()):
                full = F.interpolate(small[None, None], mask.shape, mode='bilinear')[0, 0]
                p = full.sigmoid()
                bce.append(2 * F.binary_cross_entropy(p, mask))
                sums = (p.sum() + mask.sum()) / 1000
                dice.append(0.5 * (1 - (2 * (p * mask).sum() / 1000 + 1e-6) / (sums + 1e-6)))
    assert len(bce) == 16
    torch.testing.assert_close(losses['loss_mask_bce'], sum(bce) / 16)
    torch.testing.assert_close(losses['loss_mask_dice'], sum(dice) / 16)
    torch.testing.assert_close(losses['loss_ce'], F.cross_entropy(ce_logits.float(), targets))
    torch.testing.assert_close(model(inputs, samples), logits)
    model.parse_losses(losses)[0].backward()
    for part in (model.mllm.vision_tower, model.mllm.projector, model.mllm.llm,
                 model.mllm.seg_projector, model.mllm.lm_head, model.mask_head.sam2.image_encoder,
                 model.mask_head.sam2.memory_attention, model.mask_head.sam2.memory_encoder):
        assert any(p.grad is not None and p.grad.any() for p in part.parameters())


def test_batches_whose_videos_do_not_fit_together(make_glus, video, make_batch):
    model = make_glus()
    videos = [(video, ['a'], [0, 2], range(4)), (video, ['b'], [0, 2], range(4))]
    inputs, samples = make_batch(model, videos)
    inputs['sam_imgs'][1] = inputs['sam_imgs'][1][:3]
    with pytest.raises(ValueError, match=r'as many query frames in every video .* got \[3, 4\]'):
        model(inputs, samples, mode='loss')


def test_predict_fills_the_data_sample(talking, video, make_sample):
    model = talking()
    out, masks = predict(model, video, make_sample())
    assert masks.shape == (3, 8, 40, 56)
    assert out.pred_seg.all() and out.pred_seg.shape == out.pred_scores.shape == (3, 8)
    assert out.pred_scores.dtype == torch.float32
    assert 0 < out.pred_scores.min() and out.pred_scores.max() <= 1
    full = F.interpolate(run(model, video, make_sample())[0], (40, 56), mode='bilinear')
    assert np.array_equal(masks, full.numpy() > 0) and masks.any() and not masks.all()
    model = talking()
    samples = [make_sample(), make_sample(['all stars'])]
    readers = [ArrayReader(video), ArrayReader(video[2:5])]
    out = model(dict(reader=readers), copy.deepcopy(samples), mode='predict')
    for sample, frames, result in zip(samples, (video, video[2:5]), out):
        assert result.pred_masks == predict(model, frames, sample)[0].pred_masks
    model, sample = talking(), make_sample()
    together = run(model, video, sample)[0]
    for e, expression in enumerate(sample.expressions):
        torch.testing.assert_close(
            run(model, video, make_sample([expression]))[0][0], together[e], **EXACT)
    assert (together[0] - together[1]).abs().max() > 1e-3, 'expressions make a difference'


@pytest.mark.parametrize('options', [
    {}, {'window': 2, 'num_context': 0}, {'use_memory': False, 'num_context': 2}])
@pytest.mark.parametrize('always', [True, False])
def test_reuse_is_exact(make_glus, emit_seg, video, make_sample, options, always):
    options = {f'test_cfg.{key}': value for key, value in options.items()}
    exact, plain = (make_glus({**options, 'test_cfg.propagator': propagator})
                    for propagator in (None, OFFICIAL))
    emit_seg(exact, video, always=always)
    plain.load_state_dict(exact.state_dict())
    sample = make_sample()
    (logits, is_seg), (others, other_seg) = (run(m, video, sample) for m in (exact, plain))
    assert torch.equal(is_seg, other_seg) and is_seg.all() == always
    torch.testing.assert_close(logits, others, **EXACT)
    out, masks = predict(exact, video, sample)
    assert out.pred_masks == predict(plain, video, sample)[0].pred_masks
    assert masks.any()


@pytest.mark.parametrize('options', [
    {'test_cfg.num_context': 1000}, {'test_cfg.window': 10**9}, {'mllm.pooling': 'none',
                                                                 'test_cfg.num_context': 61}])
def test_more_frames_than_the_llm_has_positions_for(make_glus, options):
    size = 16 if 'mllm.pooling' in options else 4
    with pytest.raises(ValueError, match=re.escape(
            f'model.test_cfg.num_context + window: expected at most {1024 // size} frames in a '
            f'prompt, as a frame has {size} tokens and the LLM 1024 positions')):
        make_glus(options)


def test_a_training_with_more_frames_than_the_llm_has_positions_for(
        make_glus, video, make_batch):
    model = make_glus({'mllm.llm.max_position_embeddings': 36})
    for context, message in (([0, 3, 6], None), (range(8), 'num_context .* at most 9 .* got 10')):
        inputs, samples = make_batch(model, [(video, ['the star'], context, [2, 3])])
        if message is None:
            model.loss(inputs, samples)
        else:
            with pytest.raises(ValueError, match=message):
                model.loss(inputs, samples)


def test_nothing_to_see_or_to_say(talking, make_sample, video):
    """Nothing to see is no error, whatever the masks then are."""
    frames = [np.zeros((40, 56, 3), np.uint8)] * 3
    out, masks = predict(talking(), frames, make_sample())
    assert masks.shape == (3, 3, 40, 56) and out.pred_scores.isfinite().all()
    logits = run(talking(), frames, make_sample())[0]
    assert logits[torch.isfinite(logits)].numel() > 0
    sample, = talking().predict(dict(reader=[ArrayReader(video)]), [make_sample(())])
    assert sample.pred_masks == [] and sample.pred_scores.shape == (0, 8)
    assert sample.context_frame_ids == ArrayReader(video).context_frames(4)


def test_steps_without_seg(make_glus, emit_seg, video, make_sample):
    """The mask is empty, nothing is stored, and the next frames go on."""
    model = emit_seg(make_glus(), video, always=False)
    sample = make_sample()
    stored = []
    handle = model.mask_head.register_forward_pre_hook(
        lambda _, args: stored.extend(
            (step, bank.frame_ids) for step, bank in zip(args[3], args[2])))
    out, masks = predict(model, video, sample)
    handle.remove()
    silent = ~out.pred_seg
    assert silent.any() and out.pred_seg.any()
    assert not masks[silent.numpy()].any() and not out.pred_scores[silent].any()
    assert (out.pred_scores[out.pred_seg] > 0).all()
    logits, is_seg = run(model, video, sample)
    assert torch.equal(is_seg, out.pred_seg)
    assert logits[silent].isneginf().all() and logits[~silent].isfinite().all()
    assert len(stored) == int(out.pred_seg.sum()), 'SAM-2 runs for tracks with [SEG] only'
    spoken = [(t, [i for i in range(t) if out.pred_seg[e, i]])
              for t in range(8) for e in range(3) if out.pred_seg[e, t]]
    for (t, frame_ids), (expected_t, before) in zip(stored, spoken):
        assert t == expected_t and set(frame_ids) <= set(before)


def test_no_seg_at_all(make_glus, video, make_sample):
    model = make_glus()
    with torch.no_grad():
        model.mllm.lm_head.weight.zero_()
    runs = []
    model.mask_head.sam2.image_encoder.register_forward_hook(lambda *_: runs.append(1))
    out, masks = predict(model, video, make_sample())
    assert not masks.any() and not out.pred_seg.any() and not runs


def test_without_memory_frames_do_not_depend_on_one_another(talking, video, make_sample):
    sample = make_sample()
    model = talking({'test_cfg.use_memory': False, 'test_cfg.window': 1,
                     'test_cfg.num_context': 0})
    logits = run(model, video, sample)[0]
    alone = torch.cat([run(model, [frame], sample)[0] for frame in video], 1)
    torch.testing.assert_close(logits, alone, **EXACT)
    with_memory = run(talking({'test_cfg.window': 1, 'test_cfg.num_context': 0}), video, sample)[0]
    torch.testing.assert_close(with_memory[:, 0], logits[:, 0], **EXACT)
    assert (with_memory[:, 1:] - logits[:, 1:]).flatten(2).abs().amax(2).min() > 1e-6


@pytest.mark.parametrize('propagator', [None, OFFICIAL])
def test_key_frames(talking, video, make_sample, propagator):
    """Forward and backward passes, each on its own, for expressions with different key frames."""
    model, sample = talking({'test_cfg.propagator': propagator}), make_sample()
    key_frames = [3, 7, 3]
    logits = run(model, video, sample, key_frames)[0]
    for e, key in enumerate(key_frames):
        session = model.init_session(ArrayReader(video), sample)
        forward = dict(model.propagate(session, [e], key))
        backward = dict(model.propagate(session, [e], key, reverse=True))
        assert list(forward) == list(range(key, 8))
        assert list(backward) == list(range(key, -1, -1))
        torch.testing.assert_close(
            forward[key].low_res_logits, backward[key].low_res_logits, **EXACT)
        for t in range(8):
            pred = (forward if t >= key else backward)[t]
            torch.testing.assert_close(logits[e, t], pred.low_res_logits[0], **EXACT)


def test_a_backward_pass_is_a_forward_pass_of_the_reversed_video(talking, video, make_sample):
    model, sample = talking({'test_cfg.num_context': 0}), make_sample()
    backward = run(model, video, sample, [7, 7, 7])[0]
    torch.testing.assert_close(backward, run(model, video[::-1], sample)[0].flip(1), **EXACT)


def test_sessions(talking, make_sample, video):
    model = talking({'test_cfg.window': 3})
    session = model.init_session(ArrayReader(video * 3), make_sample())
    for _ in model.segment(session):
        assert len(session.visual_tokens) <= 3 + 4, 'the window and the context frames'
        assert len(session.sam_features) <= 1 and len(session.prefix) <= 1
    model, sample = talking(), make_sample()
    before = predict(model, video, sample)[0]
    predict(model, video[::-1], make_sample(['another text']))
    after = predict(model, video, sample)[0]
    assert after.pred_masks == before.pred_masks
    assert torch.equal(after.pred_scores, before.pred_scores)
    model = talking()
    session = model.init_session(ArrayReader(video), make_sample())
    for _, pred in model.propagate(session, [0, 1]):
        assert not pred.low_res_logits.requires_grad and not pred.seg_tokens.requires_grad


def test_training_goes_on_after_testing(talking, video, make_sample, make_batch):
    """What sam2 caches while testing must not be unusable for the backward pass."""
    model = talking(dtype=torch.float32)
    predict(model, video[:3], make_sample())
    model.train()
    batch = make_batch(model, [(video, ['a star'], [0, 2], range(3))])
    model.parse_losses(model(*batch, mode='loss'))[0].backward()
    assert model.mask_head.sam2.memory_encoder.out_proj.weight.grad.any()
    model = talking(dtype=torch.float32)
    with torch.autocast('cpu', torch.bfloat16):
        out = predict(model, video[:3], make_sample())[0]
    assert out.pred_seg.all()
    batch = make_batch(model, [(video, ['a star'], [0, 2], range(3))])
    # A context of its own: torch 2.6 keeps the weights that were cast in inference mode.
    with torch.autocast('cpu', torch.bfloat16):
        total = model.parse_losses(model(*batch, mode='loss'))[0]
    total.backward()
    assert total.isfinite()


@pytest.mark.parametrize(('options', 'error', 'message'), [
    ({'test_cfg.windw': 4}, TypeError, 'windw'),
    ({'test_cfg.window': 0}, ValueError, r'model\.test_cfg\.window must be .* at least 1, got 0'),
    ({'test_cfg.window_stride': 5}, ValueError,
     r'model\.test_cfg\.window_stride must be at most window, which is 4, got 5'),
    ({'test_cfg.window_stride': 0}, ValueError, r'model\.test_cfg\.window_stride .* got 0'),
    ({'test_cfg.feature_cache': 0}, ValueError, r'model\.test_cfg\.feature_cache .* got 0'),
    ({'test_cfg.prefetch': -1}, ValueError, r'model\.test_cfg\.prefetch .* got -1'),
    ({'test_cfg.compile': 1}, ValueError, r'model\.test_cfg\.compile .* got 1'),
    ({'test_cfg.llm_bits': 3}, ValueError, r'model\.test_cfg\.llm_bits .*\(4, 8, 16\), got 3'),
    ({'test_cfg.reuse': 'none'}, ValueError,
     r"model\.test_cfg\.reuse is 'exact' always, got 'none'"),
    ({'test_cfg.use_memory': 'no'}, ValueError, r"model\.test_cfg\.use_memory .* got 'no'"),
    ({'train_cfg.memory_strid': 1}, TypeError, 'model.train_cfg.*memory_strid'),
    ({'train_cfg.memory_stride': 0}, ValueError, r'model\.train_cfg\.memory_stride .* got 0'),
    ({'train_cfg.use_memory': 1}, ValueError, r'model\.train_cfg\.use_memory .* got 1'),
    ({'ce_target': 'all'}, ValueError, r"model\.ce_target must be one of .*'all'"),
    ({'mask_hed': dict()}, TypeError, 'mask_hed'),
    ({'mllm.seg_dmi': 8}, TypeError, 'seg_dmi'),
    ({'data_preprocessor.mean': (0, 0, 0)}, TypeError, 'mean'),
])
def test_wrong_configs(make_glus, options, error, message):
    with pytest.raises(error, match=message):
        make_glus(options)


def test_modes_and_old_settings(make_glus, talking):
    with pytest.warns(DeprecationWarning, match=r"model\.train_cfg\.reuse is 'exact' always"):
        make_glus({'train_cfg.reuse': 'exact'})
    with pytest.raises(ValueError, match="mode must be loss, predict or tensor, got 'test'"):
        talking()({}, [], mode='test')
    assert isinstance(talking(), GLUS)
