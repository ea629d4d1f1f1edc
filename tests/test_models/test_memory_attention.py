"""Memory attention with keys and values made once equals the stock module."""

import pytest
import torch

from glus_mm.models import MemoryBank
from glus_mm.models.heads.memory_attention import can_project
from glus_mm.registry import MODELS, build_child

SIZES = dict(embed_dim=8, stages=(1, 1, 2, 1), global_att_blocks=(3, ), d_model=32, mem_dim=16,
             num_memory_layers=2, ffn_dim=32, dropout=0.1, layer_scale=0.3)


@pytest.fixture(scope='module')
def head():
    torch.manual_seed(0)
    head = build_child(MODELS, dict(
        type='SAM2MemoryHead', sam2=SIZES, image_size=64, dynamic_multimask=False)).double().eval()
    for parameter in head.parameters():
        if parameter.dim() == 1:
            torch.nn.init.normal_(parameter, std=0.3)
    return head


def segment(head, starts, num_frames, stride, derived, shared):
    """Logits by track and frame; track i joins in at ``starts[i]`` and stores 2 frames of 3."""
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(num_frames, 3, 64, 64, generator=generator, dtype=torch.float64)
    tokens = torch.randn(num_frames, len(starts), 32, generator=generator, dtype=torch.float64)
    feats = head.extract_feat(images)
    banks = [MemoryBank(stride, keeps_derived=derived) for _ in starts]
    out = {}
    for t in range(num_frames):
        active = [i for i, start in enumerate(starts) if start <= t]
        index = torch.full((1 if shared else len(active), ), t)
        memory, places = [banks[i] for i in active], [t - starts[i] for i in active]
        pred = head(feats.select(index), tokens[t, active], memory, places)
        for i, place, entry in zip(active, places, head.encode_memory(pred)):
            if (place + i) % 3:
                banks[i].add(place, entry)
        out.update({(i, t): logits for i, logits in zip(active, pred.low_res_logits)})
    return out


@pytest.mark.parametrize('stride', [1, 3])
@torch.no_grad()
def test_equals_the_stock_module(head, stride):
    """Tracks that start on different frames and have different numbers of memories."""
    stock = segment(head, [0, 0, 4], 12, stride, derived=False, shared=False)
    calls = []
    handle = head.sam2.memory_attention.register_forward_hook(lambda *_: calls.append(1))
    for shared in (False, True):
        once = segment(head, [0, 0, 4], 12, stride, derived=True, shared=shared)
        assert list(once) == list(stock)
        for key, logits in once.items():
            # RoPE of the sam2 package computes in float32.
            torch.testing.assert_close(logits, stock[key], rtol=0, atol=1e-6)
    handle.remove()
    assert not calls


@torch.no_grad()
def test_keys_and_values_are_made_once_for_each_memory(head):
    layer, made = head.sam2.memory_attention.layers[0].cross_attn_image, []
    handle = layer.k_proj.register_forward_hook(lambda _, args, out: made.append(args[0].shape[:2]))
    segment(head, [0, 0], 12, 3, derived=True, shared=True)
    handle.remove()
    # Two tracks, of which each leaves out another frame of three; of both, one batch.
    tracks = [[(place + i) % 3 > 0 for i in (0, 1)] for place in range(11)]
    assert made == [(sum(stored), 16) for stored in tracks]


def test_with_gradients_the_stock_module_runs(head):
    calls = []
    handle = head.sam2.memory_attention.register_forward_hook(lambda *_: calls.append(1))
    segment(head, [0], 3, 1, derived=True, shared=False)
    handle.remove()
    assert calls


def test_attention_of_another_kind_is_left_to_its_module(head):
    attention = head.sam2.memory_attention
    assert can_project(attention)
    attention.batch_first = False
    assert not can_project(attention)
    attention.batch_first = True


@pytest.mark.parametrize('stride', [1, 3, 5])
def test_what_is_derived_stays_as_bounded_as_the_entries(stride):
    bank, derived = MemoryBank(stride, keeps_derived=True), []

    def select(t):
        for place, entry in bank.underived(t).items():
            derived.append(float(entry))
            bank.keep_derived(place, float(entry) * 10)
        return bank.select_derived(t)

    for t in range(60):
        assert select(t) == [float(entry) * 10 for entry in bank.select(t)]
        assert len(bank._derived) <= len(bank) <= 8
        bank.add(t, torch.tensor(float(t)))
    assert derived == sorted(set(derived)), 'each entry once'
    bank.add(59, torch.tensor(7.0))
    assert select(60)[-1] == 70.0, 'a new entry in place of another'
