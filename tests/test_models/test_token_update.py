"""The token of the frame before updates the prompt, in training and testing alike."""

import pytest
import torch

from glus_mm.models.heads import MemoryBank, TokenUpdate
from glus_mm.video import ArrayReader

UPDATE = {'token_update': dict(type='TokenUpdate'), 'test_cfg.memory_stride': 1}


def test_prompts(make_glus):
    update = TokenUpdate(2)
    tokens = torch.tensor([[1., 2.], [3., 4.]])
    banks = [MemoryBank(), MemoryBank()]
    assert torch.equal(update(tokens, banks), tokens)  # zero at first
    update.carry.weight.data = 0.5 * torch.eye(2)
    assert torch.equal(update(tokens[:1], banks[:1]), 1.5 * tokens[:1])
    assert torch.equal(update(tokens, banks), torch.stack([1.75 * tokens[0], 1.5 * tokens[1]]))
    with pytest.raises(ValueError, match="token_update .* expected None with .*one_token_seg_all"):
        make_glus(dict(UPDATE, **{'train_cfg.one_token_seg_all': True}))


def test_training_and_testing_decode_alike(make_glus, emit_seg, video, make_sample, make_batch):
    plain = make_glus({'test_cfg.memory_stride': 1})
    emit_seg(plain, video)
    model = make_glus(UPDATE)
    state = model.load_state_dict(plain.state_dict(), strict=False)
    assert state.missing_keys == ['token_update.carry.weight']
    sample = make_sample()
    context = model.init_session(ArrayReader(video), sample).context_frame_ids
    inputs, samples = make_batch(
        model, [(video, sample.expressions, context, range(model.test_cfg.window))])

    def both(glus):
        session = glus.init_session(ArrayReader(video), sample)
        frames = [pred.low_res_logits for _, pred in glus.propagate(session, [0, 1, 2])]
        return glus._forward(inputs, samples)[0], torch.stack(frames[:glus.test_cfg.window], 1)

    trained, tested = both(model)
    torch.testing.assert_close(trained, both(plain)[0], rtol=0, atol=0)
    torch.nn.init.normal_(model.token_update.carry.weight, std=0.3)
    changed, tested = both(model)
    torch.testing.assert_close(changed, tested, rtol=0, atol=1e-8)
    moved = (changed - trained).abs().amax((0, 2, 3))
    assert moved[0] == 0 and (moved[1:] > 1e-4).all()
    losses = model(inputs, samples, mode='loss')
    model.parse_losses(losses)[0].backward()
    assert model.token_update.carry.weight.grad.any()
