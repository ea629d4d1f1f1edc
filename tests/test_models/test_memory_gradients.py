"""Gradients through the memory: against numeric ones, detached, frozen, and recomputed.

The official gradients of a whole training step, which ``detach_memory=True`` gives, are compared
by ``dev/check_official.py``.
"""

import pytest
import torch
from sam2.modeling.position_encoding import apply_rotary_enc
from sam2.modeling.sam import transformer
from torch.autograd.graph import saved_tensors_hooks

from glus_mm.models.heads import MemoryBank
from glus_mm.models.heads.memory_head import HeadOutput

NUM_FRAMES = 4
# What the paper trains of SAM-2 (section B.2): the memory modules are frozen.
FROZEN = {'mask_head.trainable': ['sam2.sam_mask_decoder.[!c]*']}
MODULES = ('memory_attention', 'memory_encoder')


@pytest.fixture(autouse=True)
def float64_rope(monkeypatch):
    """SAM-2 rotates queries and keys in float32 whatever comes; numeric gradients need more."""
    probe = torch.randn(1, 1, 4, 8, dtype=torch.float64)
    table = torch.polar(torch.ones(4, 4).double(), torch.rand(4, 4).double())
    expected = apply_rotary_enc(probe, probe, table.to(torch.complex64))
    for ours, theirs in zip(rotate_in_float64(probe, probe, table), expected):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)
    monkeypatch.setattr(transformer, 'apply_rotary_enc', rotate_in_float64)


def rotate_in_float64(q, k, freqs_cis, repeat_freqs_k=False):
    """``apply_rotary_enc`` of sam2, in the type of its input."""

    def rotate(x, table):
        pairs = torch.view_as_complex(x.unflatten(-1, (-1, 2)))
        return torch.view_as_real(pairs * table).flatten(-2)

    freqs_cis = freqs_cis.to(torch.complex128)
    repeats = k.shape[-2] // q.shape[-2] if repeat_freqs_k else 1
    return rotate(q, freqs_cis), rotate(k, freqs_cis.repeat(repeats, 1))


def random(*shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture
def clip(make_glus):
    """``clip(options)``: a model, features of 4 frames and seg tokens (4, 2, C) of 2 tracks."""

    def make(options=None):
        model = make_glus(options)
        with torch.no_grad():  # random weights hardly look at the memory
            for layer in model.mask_head.sam2.memory_attention.layers:
                layer.cross_attn_image.out_proj.weight *= 10
        with torch.no_grad():
            feats = model.mask_head.extract_feat(random(NUM_FRAMES, 3, 64, 64, seed=1))
        return model, feats, random(NUM_FRAMES, 2, model.mask_head.token_dim, seed=2)

    return make


def frame_losses(model, feats, tokens):
    """Mask loss of each frame of the first track; frames are decoded as in training."""
    memory = [MemoryBank(1) for _ in range(tokens.shape[1])]
    target = torch.zeros(1, 16, 16, dtype=torch.uint8)
    target[:, 4:10, 3:12] = 1
    losses = []
    for t, seg in enumerate(tokens):
        index = torch.full((len(seg), ), t)
        pred = model.decode(feats.select(index), seg, memory, t)
        losses.append(model.loss_mask_bce(pred.low_res_logits[:1], target).sum())
    return losses


def numeric(function, tensor, direction, step=1e-5):
    """Derivative of a scalar function along a direction, by differences of fourth order."""
    start = tensor.detach().clone()

    def at(number):
        with torch.no_grad():
            tensor.copy_(start + number * step * direction)
            return function().item()

    value = (8 * (at(1) - at(-1)) - (at(2) - at(-2))) / (12 * step)
    with torch.no_grad():
        tensor.copy_(start)
    return value


@pytest.mark.parametrize('options', [{}, FROZEN], ids=['trained', 'frozen'])
def test_gradient_into_earlier_seg_tokens_is_the_numeric_one(clip, options):
    """The loss of frame t moves with the seg token of every frame before it, frozen or not."""
    model, feats, tokens = clip(options)
    tokens.requires_grad_()
    for t in range(1, NUM_FRAMES):
        grad, = torch.autograd.grad(frame_losses(model, feats, tokens)[t], tokens)
        assert not grad[:, 1].any() and not grad[t + 1:].any()
        for earlier in range(t):
            direction = torch.zeros_like(tokens)
            direction[earlier, 0] = random(tokens.shape[-1], seed=t)
            expected = numeric(lambda t=t: frame_losses(model, feats, tokens)[t], tokens,
                               direction)
            assert abs(expected) > 1e-6
            # A step of 1e-5 leaves some 1e-10 of rounding in a difference of losses of about 1.
            assert (grad * direction).sum().item() == pytest.approx(
                expected, rel=1e-5, abs=1e-9), earlier


def test_gradient_of_the_memory_modules_is_the_numeric_one(clip):
    model, feats, tokens = clip()
    for name in ('memory_encoder.out_proj.weight', 'memory_encoder.fuser.layers.0.gamma',
                 'memory_attention.layers.0.cross_attn_image.k_proj.weight'):
        weight = model.mask_head.sam2.get_parameter(name)
        grad, = torch.autograd.grad(frame_losses(model, feats, tokens)[-1], weight)
        direction = random(*weight.shape, seed=3)
        expected = numeric(lambda: frame_losses(model, feats, tokens)[-1], weight, direction)
        assert abs(expected) > 1e-8
        assert (grad * direction).sum().item() == pytest.approx(expected, rel=1e-5), name


def test_frozen_memory_and_no_gradients(clip):
    model, feats, tokens = clip(FROZEN)
    tokens.requires_grad_()
    frame_losses(model, feats, tokens)[-1].backward()
    sam = model.mask_head.sam2
    for module in MODULES:
        assert all(p.grad is None for p in getattr(sam, module).parameters())
    assert tokens.grad[:, 0].abs().amax(1).min() > 0
    assert sam.sam_mask_decoder.mask_tokens.weight.grad.any()
    model, feats, tokens = clip({'mask_head.checkpoint_memory': True})
    with torch.no_grad():
        losses = frame_losses(model, feats, tokens)
    assert not any(loss.requires_grad for loss in losses)
    plain, *_ = clip()
    assert all(torch.equal(a, b) for a, b in zip(losses, frame_losses(plain, feats, tokens)))


def official_losses(model, feats, tokens):
    """As the official code: features and memories are constants, only the decoder has a graph."""
    head, memory = model.mask_head, [MemoryBank(1) for _ in range(tokens.shape[1])]
    target = torch.zeros(1, 16, 16, dtype=torch.uint8)
    target[:, 4:10, 3:12] = 1
    losses = []
    for t, seg in enumerate(tokens):
        index = torch.full((len(seg), ), t)
        with torch.no_grad():
            conditioned = head._condition(feats.select(index), memory, t)
        decode, head._condition = head._condition, lambda *_, value=conditioned: value
        logits = head(feats.select(index), seg, memory, t).low_res_logits
        head._condition = decode
        with torch.no_grad():
            entries = head.encode_memory(HeadOutput(logits, None, conditioned))
        for bank, entry in zip(memory, entries):
            bank.add(t, entry)
        losses.append(model.loss_mask_bce(logits[:1], target).sum())
    return losses


def test_detached_memory_gives_the_official_gradients(clip):
    """Bit for bit, where the memory modules and what they add are frozen."""
    model, feats, tokens = clip(dict(FROZEN, **{'mask_head.detach_memory': True}))
    through, *_ = clip(FROZEN)
    names = [name for name, p in model.mask_head.named_parameters() if p.requires_grad]
    results = []
    for some, run in ((model, frame_losses), (model, official_losses), (through, frame_losses)):
        leaf = tokens.clone().requires_grad_()
        losses = run(some, feats, leaf)
        wanted = [leaf, *map(some.mask_head.get_parameter, names)]
        results.append((losses, torch.autograd.grad(sum(losses), wanted, allow_unused=True)))
    (losses, grads), (official, expected), (others, different) = results
    for loss, a, b in zip(losses, official, others):
        assert torch.equal(loss, a) and torch.equal(loss, b), 'no value depends on the switch'
    used = [i for i, grad in enumerate(grads) if grad is not None]
    assert used == [i for i, grad in enumerate(expected) if grad is not None]
    assert all(torch.equal(grads[i], expected[i]) for i in used)
    assert not torch.allclose(grads[0], different[0], rtol=1e-3)


@pytest.mark.parametrize('detach', [False, True])
def test_the_language_side_learns_from_what_its_tokens_left_in_the_memory(
        make_glus, video, make_batch, detach):
    """The whole step: its gradient is the numeric one exactly if it goes through the memory."""
    model = make_glus({'mask_head.detach_memory': detach})
    with torch.no_grad():
        for layer in model.mask_head.sam2.memory_attention.layers:
            layer.cross_attn_image.out_proj.weight *= 10
    batch = make_batch(model, [(video, ['a star', 'x'], [0, 2], range(4))])

    def loss():
        return model(*batch, mode='loss')['loss_mask_bce']

    weight = model.mllm.seg_projector[2].weight
    grad, = torch.autograd.grad(loss(), weight)
    direction = random(*weight.shape, seed=5)
    expected = numeric(loss, weight, direction)
    assert ((grad * direction).sum().item() == pytest.approx(expected, rel=1e-4)) is not detach


# Recomputed activations


def step(model, batch):
    """Losses, gradients, and the bytes that the graph keeps for the backward pass."""
    kept = {}

    def pack(tensor):
        # Held, so that no address is given out again while others are counted.
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage
        return tensor

    torch.manual_seed(7)  # dropout
    with saved_tensors_hooks(pack, lambda tensor: tensor):
        losses = model(*batch, mode='loss')
    model.zero_grad()
    model.parse_losses(losses)[0].backward()
    grads = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return losses, grads, sum(storage.nbytes() for storage in kept.values())


@pytest.mark.parametrize('options', [
    {}, FROZEN, {'mask_head.sam2.dropout': 0.1}, {'mask_head.detach_memory': True}],
    ids=['trained', 'frozen', 'dropout', 'detached'])
def test_checkpoint_memory_gives_the_same_gradients_in_less_memory(
        make_glus, video, make_batch, options):
    results = []
    for recompute in (False, True):
        model = make_glus(dict(options, **{'mask_head.checkpoint_memory': recompute})).train()
        batch = make_batch(model, [(video, ['a star', 'x'], [0, 2], range(4)),
                                   (video[::-1], ['y'], [0, 2], range(4))])
        results.append(step(model, batch))
    (losses, grads, kept), (others, other_grads, less) = results
    assert all(torch.equal(losses[name], others[name]) for name in losses)
    assert grads.keys() == other_grads.keys()
    assert all(torch.equal(grads[name], other_grads[name]) for name in grads)
    has_memory = any(name.startswith('mask_head.sam2.memory_') for name in grads)
    assert has_memory == (options in ({}, {'mask_head.sam2.dropout': 0.1}))
    if 'mask_head.detach_memory' in options:
        assert less == kept
    else:
        assert less < 0.9 * kept
