"""One seg token for all query frames: training, inference, and that both decode alike."""

import numpy as np
import pytest
import torch

from glus_mm.datasets.transforms import BuildConversation
from glus_mm.models.inference import ArrayReader
from glus_mm.models.propagators import OneTokenPropagator
from glus_mm.text.prompt import build_conversation

ONE = {'train_cfg.one_token_seg_all': True, 'test_cfg.memory_stride': 1,
       'test_cfg.propagator': dict(type='OneTokenPropagator')}


@pytest.fixture(scope='module')
def model(talking):
    return talking(ONE)


def batch(model, make_batch, frames, expressions, context, query):
    """As the pipeline makes it: all query frames, one turn."""
    inputs, samples = make_batch(model, [(frames, expressions, context, query)])
    texts = [build_conversation(model.mllm.tokenizer, model.mllm.template, expression,
                                len(context), [0], [0]) for expression in expressions]
    inputs.update(input_ids=[[ids for ids, _ in texts]], labels=[[labels for _, labels in texts]])
    return inputs, samples


def run(model, frames, sample, key_frames=None):
    session = model.init_session(ArrayReader(frames), sample)
    side = model.mask_head.image_size // 4
    logits = torch.full((len(sample), len(frames), side, side), torch.nan).double()
    for t, exps, pred in model.segment(session, key_frames):
        assert logits[exps, t].isnan().all(), 'a frame came twice'
        logits[exps, t] = pred.low_res_logits
    return logits


def test_training_and_testing_decode_alike(model, video, make_sample, make_batch):
    sample = make_sample()
    context = model.init_session(ArrayReader(video), sample).context_frame_ids
    inputs, samples = batch(model, make_batch, video, sample.expressions, context, range(4))
    logits, ce_logits, _, tokens, *_ = model._forward(inputs, samples)
    assert tokens.shape[:2] == (3, 4) and torch.equal(tokens[:, 0], tokens[:, 3])
    torch.testing.assert_close(logits, run(model, video, sample)[:, :4], rtol=0, atol=1e-8)
    assert len(ce_logits) == sum((labels != -100).sum() for labels in inputs['labels'][0])
    losses = model(inputs, samples, mode='loss')
    model.parse_losses(losses)[0].backward()
    assert model.mllm.seg_projector[0].weight.grad.any()


def test_key_frames(model, make_glus, video, make_sample):
    sample = make_sample()
    keyed = run(model, video, sample, [3, 0, 3])
    torch.testing.assert_close(keyed[1], run(model, video, sample)[1])
    assert not keyed.isnan().any()
    glus = make_glus({'test_cfg.memory_stride': 1})
    glus.load_state_dict(model.state_dict())
    key = run(glus, video, sample, [3, 0, 3])
    torch.testing.assert_close(keyed[0, 3], key[0, 3])
    assert (keyed[0, [2, 4]] - key[0, [2, 4]]).abs().amax((1, 2)).min() > 1e-4
    model = make_glus(ONE)
    sample, = model.predict(dict(reader=[ArrayReader(video)]), [make_sample()])
    assert isinstance(model.propagator, OneTokenPropagator)
    assert not sample.pred_seg.any() and not sample.pred_scores.any()
    assert all(rle['counts'] == sample.pred_masks[0][0]['counts']
               for rles in sample.pred_masks for rle in rles)


def test_one_turn_and_its_errors(make_glus, model, video, make_batch):
    results = dict(expressions=[dict(exp='a star')], context_frame_ids=[1, 2],
                   query_frame_ids=[3, 4, 5])
    counts = []
    for one in (False, True):
        build = BuildConversation('tiny', 'compact', one_token_seg_all=one)
        done = build(dict(results, rng=np.random.default_rng(0)))
        ids = done['input_ids'][0]
        counts.append(((ids == build.tokenizer.seg_id).sum(), (ids == -200).sum()))
    assert counts == [(3, 5), (1, 3)]
    with pytest.raises(ValueError, match="one_token_seg_all must be .* got 'token'"):
        BuildConversation('tiny', 'compact', one_token_seg_all='token')
    with pytest.raises(ValueError, match="expected None with model.train_cfg.one_token_seg_all"):
        make_glus(dict(ONE, loss_contrastive=dict(type='ObjectContrastiveLoss')))
    with pytest.raises(ValueError, match="train_cfg.one_token_seg_all must be .* got 'token'"):
        make_glus({'train_cfg.one_token_seg_all': 'token'})
    inputs, samples = make_batch(model, [(video, ['a star'], [0, 2], range(4))])
    with pytest.raises(ValueError, match='expected 3 image places in the conversations, got 6'):
        model(inputs, samples, mode='loss')
