"""The SAM-2 head: batches, memories, gradients, sizes, and architectures by name."""

import pytest
import torch

from glus_mm.models import MemoryBank, SAM2MemoryHead
from glus_mm.models.heads.sam2_arch import build_sam2, initial_layer_scale
from glus_mm.registry import MODELS, build_child

SIZES = dict(embed_dim=8, stages=(1, 1, 2, 1), global_att_blocks=(3, ), d_model=32, mem_dim=16,
             num_memory_layers=1, ffn_dim=32, dropout=0.0, layer_scale=0.3)


def make_head(**options):
    torch.manual_seed(0)
    head = build_child(MODELS, dict(dict(
        type='SAM2MemoryHead', sam2=SIZES, image_size=64, dynamic_multimask=False), **options))
    torch.nn.init.normal_(head.sam2.no_mem_embed)
    return head.double().eval()


@pytest.fixture(scope='module')
def head():
    return make_head()


def random(*shape, seed=1):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def track(head, feats, tokens, num_frames, stored=None):
    """Decode ``num_frames`` frames of N tracks; ``stored[i]``: frames track i stores."""
    memory = [MemoryBank() for _ in range(tokens.shape[1])]
    out = []
    for t in range(num_frames):
        index = torch.full((tokens.shape[1], ), t)
        pred = head(feats.select(index), tokens[t], memory, t)
        for i, entry in enumerate(head.encode_memory(pred)):
            if stored is None or t in stored[i]:
                memory[i].add(t, entry)
        out.append(pred)
    return out


def test_tracks_are_independent(head):
    feats, tokens = head.extract_feat(random(4, 3, 64, 64)), random(4, 3, 32, seed=2)
    stored = [{0, 1, 2}, set(), {1}]
    batch = track(head, feats, tokens, 4, stored)
    for i in range(3):
        alone = track(head, feats, tokens[:, i:i + 1], 4, stored[i:i + 1])
        for t in range(4):
            torch.testing.assert_close(
                batch[t].low_res_logits[i], alone[t].low_res_logits[0], rtol=0, atol=1e-6)
            torch.testing.assert_close(
                batch[t].conditioned[i], alone[t].conditioned[0], rtol=0, atol=1e-6)
    # Tracks with 1, 0, 2, 1 memories: grouped inside, but given back in their order.
    feats = head.extract_feat(random(4, 3, 64, 64))
    tokens, entries = random(4, 32), random(4, 16, 16, seed=3)
    banks = [MemoryBank() for _ in range(4)]
    for i, frames in enumerate(([2], [], [1, 2], [1])):
        for t in frames:
            banks[i].add(t, entries[i])
    both = head(feats, tokens, banks, 3)
    back = head(feats.select(torch.tensor([3, 2, 1, 0])), tokens.flip(0), banks[::-1], 3)
    torch.testing.assert_close(back.low_res_logits.flip(0), both.low_res_logits, rtol=0, atol=1e-6)


def test_memory(head):
    feats = head.extract_feat(random(1, 3, 64, 64))
    pred = head(feats, random(1, 32), [MemoryBank()], 0)
    expected = feats.top + head.sam2.no_mem_embed.view(1, -1, 1, 1)
    torch.testing.assert_close(pred.conditioned, expected)
    feats, token = head.extract_feat(random(2, 3, 64, 64)), random(1, 32)
    frame = feats.select(torch.tensor([1]))
    logits = [head(frame, token, [MemoryBank()], 1).low_res_logits]
    for scale in (1, 5):
        bank = MemoryBank()
        first = head(feats.select(torch.tensor([0])), scale * token, [MemoryBank()], 0)
        bank.add(0, head.encode_memory(first)[0])
        logits.append(head(frame, token, [bank], 1).low_res_logits)
    for a, b in ((0, 1), (1, 2)):
        assert (logits[a] - logits[b]).abs().max() > 1e-4
    # As in the official GLUS; stock SAM-2 takes the unconditioned ones.
    feats = head.extract_feat(random(1, 3, 64, 64))
    pred = head(feats, random(1, 32), [MemoryBank()], 0)
    mask = torch.nn.functional.interpolate(
        pred.low_res_logits[None], (64, 64), mode='bilinear').sigmoid() * 20 - 10
    out = head.sam2.memory_encoder(pred.conditioned, mask, skip_mask_sigmoid=True)
    entry = head.encode_memory(pred)
    torch.testing.assert_close(entry, out['vision_features'].flatten(2).mT)
    stock = head.sam2.memory_encoder(feats.top, mask, skip_mask_sigmoid=True)
    assert (entry - stock['vision_features'].flatten(2).mT).abs().max() > 1e-3


def test_official_gamma():
    """The same masks as a model whose layer scales are at their initial value; no weight moves."""
    sizes = dict(SIZES, layer_scale=0.25)
    ours, official, initial = (make_head(sam2=sizes, official_gamma=on) for on in (0, 1, 0))
    gammas = [n for n, _ in ours.named_parameters() if n.endswith('.gamma')]
    assert len(gammas) == 2
    state = {key: torch.full_like(value, 0.7) if key in gammas else value
             for key, value in ours.state_dict().items()}
    for head in (ours, official):
        head.load_state_dict(state)
    images, tokens = random(3, 3, 64, 64), random(3, 1, 32)
    logits = [track(head, head.extract_feat(images), tokens, 3)[-1].low_res_logits
              for head in (ours, official, initial)]
    assert torch.equal(logits[1], logits[2])
    assert (logits[0] - logits[1]).abs().max() > 1e-4
    assert all(torch.equal(value, state[key]) for key, value in official.state_dict().items())
    logits[1].sum().backward()
    assert all(official.get_parameter(name).grad is None for name in gammas)
    official.official_gamma = False
    again = track(official, official.extract_feat(images), tokens, 3)[-1].low_res_logits
    assert torch.equal(again, logits[0])
    sizes = dict(SIZES, layer_scale=0)
    images, tokens = random(2, 3, 64, 64), random(2, 1, 32)
    logits = [track(head, head.extract_feat(images), tokens, 2)[-1].low_res_logits
              for head in (make_head(sam2=sizes, official_gamma=on) for on in (False, True))]
    assert torch.equal(*logits)


@pytest.mark.parametrize(('arch', 'expected'), [
    ('sam2_hiera_l', 1e-6), ('sam2.1_hiera_t', 1e-6), (dict(SIZES, layer_scale=0), 0.0),
    (SIZES, 0.3), ({}, 1e-6)])
def test_initial_layer_scale(arch, expected):
    assert initial_layer_scale(arch) == expected


def test_training(head):
    images, tokens = random(2, 3, 64, 64), random(2, 1, 32)
    before = track(head, head.extract_feat(images), tokens, 2)[-1].low_res_logits
    head.train()
    after = track(head, head.extract_feat(images), tokens, 2)[-1].low_res_logits
    head.eval()
    assert torch.equal(before, after)
    coords, labels = random(2, 3, 2).abs() * 20, torch.tensor([[1, 0, -1], [0, 1, 1]])
    tokens = head.point_tokens(coords, labels)
    encoder = head.sam2.sam_prompt_encoder.float()
    expected, _ = encoder((coords.float(), labels), None, None)
    head.double()
    assert tokens.shape == (2, 3, 32)
    assert torch.allclose(tokens.float(), expected[:, :3], atol=1e-6)


def test_what_is_wrong(head, tmp_path):
    with pytest.raises(ValueError, match=r'\(M, 3, 64, 64\) as model.mask_head.image_size says, '
                                         r'got \(1, 3, 32, 64\)'):
        head.extract_feat(random(1, 3, 32, 64))
    path = tmp_path / 'arch.yaml'
    path.write_text('modle: {}')
    with pytest.raises(ValueError, match=r"arch\.yaml: expected a SAM-2 config with the key "
                                         r'"model", got \[\'modle\'\]'):
        build_sam2(str(path), 64)


@pytest.mark.parametrize(('options', 'error', 'message'), [
    (dict(image_size=100), ValueError, 'multiple of 32, got 100'),
    (dict(sam2='sam2_hiera_x'), FileNotFoundError, 'sam2_hiera_x'),
    (dict(sam2='no/such.yaml'), FileNotFoundError, 'no/such.yaml'),
    (dict(sam2=dict(d_modle=32)), TypeError, 'd_modle'),
    (dict(trainable=['sam2.mask_decoder.*']), ValueError, 'sam2.mask_decoder'),
    (dict(memory=3), TypeError, 'memory'),
])
def test_wrong_configs(options, error, message):
    with pytest.raises(error, match=message):
        make_head(**options)


def test_architectures():
    head = SAM2MemoryHead('sam2_hiera_t', 512)
    assert head.token_dim == 256
    assert head.sam2.image_size == 512
    assert head.sam2.sam_mask_decoder.dynamic_multimask_via_stability
    attention = head.sam2.memory_attention.layers[0].cross_attn_image
    assert attention.freqs_cis.shape[0] == (512 // 16)**2
    head = make_head(trainable=['sam2.sam_mask_decoder.*'])
    images = random(1, 3, 64, 64).requires_grad_()
    assert not head.extract_feat(images).top.requires_grad
    assert head.extract_feat(images).high_res[0].requires_grad, 'conv_s0 belongs to the decoder'
    assert make_head().extract_feat(images).top.requires_grad
    trained = {name.split('.')[1] for name, p in head.named_parameters() if p.requires_grad}
    assert trained == {'sam_mask_decoder'}
    assert not any(p.requires_grad for p in make_head(trainable=[]).parameters())


def test_the_number_of_memories_is_configurable():
    """model.mask_head.memory_bank, for training and inference alike."""
    head, few = make_head(), make_head(memory_bank=dict(num_memories=2))
    assert head.new_memory(3).num_memories == 7 and few.new_memory(3).num_memories == 2
    assert few.new_memory(3).stride == 3
    feats, tokens = head.extract_feat(random(5, 3, 64, 64)), random(5, 1, 32, seed=2)
    outputs = []
    for which in (head, few):
        memory = [which.new_memory()]
        for t in range(5):
            pred = which(feats.select(torch.tensor([t])), tokens[t], memory, t)
            memory[0].add(t, which.encode_memory(pred)[0])
            assert len(memory[0].select(t)) <= memory[0].num_memories
        outputs.append(pred.low_res_logits)
    assert not torch.equal(*outputs)
    for wrong in (dict(num_memories=0), dict(type='MemoryBank', num_memory=3)):
        with pytest.raises((TypeError, ValueError), match='num_memor'):
            make_head(memory_bank=wrong)


# Clicks


def test_a_track_without_clicks_is_decoded_from_its_seg_token_alone(head):
    feats, tokens = head.extract_feat(random(3, 3, 64, 64)), random(3, 32, seed=2)
    memory = [MemoryBank() for _ in range(3)]
    plain = head(feats, tokens, memory, 0)
    coords = torch.tensor([[[5., 9.], [0, 0]], [[0, 0], [0, 0]], [[60, 3], [31, 30]]])
    labels = torch.tensor([[1, -1], [-1, -1], [0, 1]])
    pred = head(feats, tokens, memory, 0, (coords, labels))
    assert torch.allclose(pred.low_res_logits[1], plain.low_res_logits[1], atol=1e-12)
    assert torch.allclose(pred.scores[1], plain.scores[1], atol=1e-12)
    assert torch.equal(pred.conditioned, plain.conditioned)
    for i in (0, 2):
        assert not torch.allclose(pred.low_res_logits[i], plain.low_res_logits[i], atol=1e-3)
        alone = head(feats.select(torch.tensor([i])), tokens[[i]], memory[:1], 0,
                     (coords[[i]], labels[[i]]))
        assert torch.allclose(alone.low_res_logits[0], pred.low_res_logits[i], atol=1e-10)
    nothing = head(feats, tokens, memory, 0, (coords, torch.full_like(labels, -1)))
    assert torch.equal(nothing.low_res_logits, plain.low_res_logits)
    # One frame for all tracks, as at inference.
    first = head(feats.select(torch.tensor([0])), tokens, memory, 0, (coords, labels))
    assert torch.allclose(first.low_res_logits[0], pred.low_res_logits[0], atol=1e-10)
