"""The contrastive loss within GLUS: identities and gradients.

The official training step is compared by ``dev/check_official.py``.
"""

import pytest
import torch

from glus_mm.models.losses import token_identity

SMALL = {'loss_contrastive': dict(type='ObjectContrastiveLoss', num_negatives=1, min_tokens=1)}
OBJECTS = (('1', ), (), ('1', ))


@pytest.fixture
def step(make_glus, make_batch, video):
    """``step(options)``: a model and a batch of two videos with 3 and 1 expressions."""

    def make(options):
        model = make_glus(options, dtype=torch.float32)
        inputs, samples = make_batch(model, [
            (video, ['the star', 'nothing', 'a red star'], [0, 5], [2, 3, 4]),
            (video[::-1], ['a circle'], [1, 6], [0, 1, 2])])
        for sample, objects, frames, name in zip(
                samples, (OBJECTS, OBJECTS[:1]), ([2, 3, 4], [0, 1, 2]), 'ab'):
            sample.set_metainfo(dict(video_id=name, object_ids=objects, query_frame_ids=frames))
        return model, inputs, samples

    return make


def test_tokens_and_their_identities(step):
    model, inputs, samples = step({})
    assert set(model.loss(inputs, samples)) == {'loss_ce', 'loss_mask_bce', 'loss_mask_dice'}
    model, inputs, samples = step(SMALL)
    losses = model.loss(inputs, samples)
    assert set(losses) == {'loss_ce', 'loss_mask_bce', 'loss_mask_dice', 'loss_contrastive'}
    seg_tokens = model._forward(inputs)[3].flatten(0, 1)
    bank = model.loss_contrastive.bank
    # Expression 1 of the first video refers to no object.
    rows = [0, 1, 2, 6, 7, 8, 9, 10, 11]
    assert len(bank) == len(rows)
    torch.testing.assert_close(bank.tokens[-9:], seg_tokens[rows].detach())
    names = [('toy/a', exp, '1', frame) for exp in '02' for frame in (2, 3, 4)]
    names += [('toy/b', '0', '1', frame) for frame in (0, 1, 2)]
    assert bank.identity[-9:].tolist() == [list(token_identity(*name)) for name in names]
    # The pairs of the first video have partners; object 1 of the second video is another object.
    assert model.loss_contrastive.statistics()['tokens'] == 6 and losses['loss_contrastive'] > 0
    model, inputs, samples = step({**SMALL, 'mllm.trainable': ['seg_projector.*']})
    model.train().loss(inputs, samples)['loss_contrastive'].backward()
    grads = {name for name, parameter in model.named_parameters()
             if parameter.grad is not None and parameter.grad.any()}
    assert grads and all(name.startswith('mllm.seg_projector.') for name in grads)
