"""SAM-2 from two packages: one set of weights, the same masks, scores and gradients."""

import sys
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from glus_mm.apis import GLUSInferencer, init_model
from glus_mm.conversion import convert_sam2
from glus_mm.models import MemoryBank
from glus_mm.models.heads import sam2_arch
from glus_mm.registry import MODELS, build_child

SIZES = dict(embed_dim=8, stages=(1, 1, 2, 1), global_att_blocks=(3, ), d_model=128, mem_dim=64,
             num_memory_layers=2, ffn_dim=32, dropout=0.0, layer_scale=0.3)
needs_sam2 = pytest.mark.skipif(find_spec('sam2') is None, reason='compares with sam2')


def make_head(backend, **sizes):
    torch.manual_seed(0)
    return build_child(MODELS, dict(
        type='SAM2MemoryHead', sam2=dict(SIZES, **sizes), image_size=64, backend=backend,
        dynamic_multimask=False)).eval()


@pytest.fixture(scope='module', params=['2', '2.1'])
def heads(request):
    """The head on sam2 and on transformers, with the weights of the first one."""
    stock, other = (make_head(name, version=request.param) for name in ('sam2', 'transformers'))
    for parameter in stock.parameters():
        if parameter.dim() == 1 or parameter is stock.sam2.no_mem_embed:
            torch.nn.init.normal_(parameter, std=0.3)
    other.load_state_dict(stock.state_dict())
    return stock, other


def track(head):
    """Masks and scores of two tracks on four frames, clicks on the third one, and the loss."""
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(4, 3, 64, 64, generator=generator)
    tokens = torch.randn(4, 2, 128, generator=generator).requires_grad_()
    points = torch.tensor([[[10., 20.], [40., 50.]], [[5., 5.], [0., 0.]]]), \
        torch.tensor([[1, 0], [2, -1]])
    feats, out, scores = head.extract_feat(images), [], []
    memory = [MemoryBank() for _ in range(2)]
    for t in range(4):
        pred = head(feats.select(torch.tensor([t, t])), tokens[t], memory, t,
                    points if t == 2 else None)
        for bank, entry in zip(memory, head.encode_memory(pred)):
            bank.add(t, entry)
        out.append(pred.low_res_logits)
        scores.append(pred.scores)
    return torch.stack(out), torch.stack(scores), tokens


def is_same_mask(found, expected):
    decided = expected.abs() > 1e-3
    return torch.equal((found > 0)[decided], (expected > 0)[decided]) and decided.any()


@needs_sam2
def test_names_and_their_order_are_those_of_sam2(heads):
    stock, other = heads
    assert {k: v.shape for k, v in other.state_dict().items()} == {
        k: v.shape for k, v in stock.state_dict().items()}
    assert [name for name, _ in other.named_parameters()] == [
        name for name, _ in stock.named_parameters()]


@needs_sam2
def test_masks_scores_and_gradients_are_equal(heads):
    results = []
    for head in heads:
        head.zero_grad()
        logits, scores, tokens = track(head)
        (logits.sigmoid().sum() + scores.sum()).backward()
        results.append((logits, scores, tokens.grad, {
            name: p.grad for name, p in head.named_parameters() if p.grad is not None}))
    (logits, scores, grad, grads), (logits2, scores2, grad2, grads2) = results
    assert is_same_mask(logits2, logits)
    torch.testing.assert_close(logits2, logits, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(scores2, scores, rtol=1e-4, atol=1e-5)
    assert (grad2 - grad).norm() <= 1e-4 * grad.norm()
    assert set(grads) == set(grads2)
    # Where a gradient is zero but for rounding it has no relative error of its own.
    least = 1e-6 * max(value.norm() for value in grads.values())
    for name, value in grads.items():
        assert (grads2[name] - value).norm() <= 1e-4 * value.norm() + least, name


@needs_sam2
def test_converter_writes_what_both_packages_read(tmp_path):
    """From Meta's layout to transformers' own loader, and back through its files."""
    from transformers import Sam2VideoModel
    head, arch = make_head('sam2', version='2.1'), tmp_path / 'sizes.yaml'
    OmegaConf.save(dict(model=dict(sam2_arch.sam2_sizes(**SIZES, version='2.1'),
                                   image_size=64)), arch)
    torch.save(dict(model=head.sam2.state_dict()), tmp_path / 'meta.pt')
    convert_sam2(str(tmp_path / 'meta.pt'), tmp_path / 'hf', 'transformers', str(arch))
    model, info = Sam2VideoModel.from_pretrained(tmp_path / 'hf', output_loading_info=True)
    assert not any(info.values())
    assert torch.equal(model.no_memory_embedding, head.sam2.no_mem_embed)
    convert_sam2(str(tmp_path / 'hf'), tmp_path / 'back', 'sam2', str(arch))
    back = torch.load(tmp_path / 'back' / 'sam2.pt')['model']
    assert all(torch.equal(back[k], v) for k, v in head.sam2.state_dict().items())
    with pytest.raises(ValueError, match='expected the weights of one of sam2_hiera_t, .*--sam2'):
        convert_sam2(str(tmp_path / 'hf'), tmp_path / 'new', 'sam2')


@needs_sam2
@pytest.mark.parametrize('name', sam2_arch.PUBLISHED)
def test_named_sizes_are_those_of_the_package(name):
    from importlib.resources import files
    family = name.partition('_')[0]
    stock = OmegaConf.to_container(OmegaConf.load(
        str(files('sam2') / 'configs' / family / f'{name}.yaml')))['model']
    defaults = dict(  # what the classes of sam2 take where a config is silent
        stages=[2, 3, 16, 3], global_att_blocks=[12, 16, 20], window_spec=[8, 4, 14, 7],
        window_pos_embed_bkg_spatial_size=[14, 14])
    stock['image_encoder']['trunk'] = {**defaults, **stock['image_encoder']['trunk']}
    stock['memory_encoder'].update(in_dim=256)
    stock['memory_encoder']['mask_downsampler'].update(embed_dim=256)
    ours = sam2_arch.load_sam2_yaml(name)
    for layer in (ours, stock):
        for kind in ('self_attention', 'cross_attention'):
            layer['memory_attention']['layer'][kind].pop('feat_sizes', None)

    def plain(value):
        if isinstance(value, dict):
            return {k: plain(v) for k, v in value.items()}
        return [plain(v) for v in value] if isinstance(value, (list, tuple)) else (
            float(value) if isinstance(value, str) and value[:1].isdigit() else value)

    assert plain(ours) == plain(stock)


def hide_sam2(monkeypatch):
    for name in [name for name in sys.modules if name.split('.')[0] == 'sam2']:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, 'sam2', None)
    monkeypatch.setattr(sam2_arch, 'find_spec', lambda name: None)


def test_what_needs_sam2_says_so(monkeypatch):
    hide_sam2(monkeypatch)
    with pytest.raises(ModuleNotFoundError, match=r'backend=.sam2. needs .*glus_mm\[sam2\]'):
        make_head('sam2')
    with pytest.raises(ValueError, match="one of .*'transformers'.* got 'jax'"):
        make_head('jax')
    with pytest.raises(ValueError, match='expected .*mem_dim=64.*got 16'):
        make_head('auto', mem_dim=16)


@needs_sam2
def test_shipped_checkpoint_gives_the_same_masks_without_sam2(monkeypatch):
    rng = np.random.default_rng(0)
    video = [rng.integers(0, 80, (64, 64, 3), dtype=np.uint8) for _ in range(5)]
    for t, frame in enumerate(video):
        frame[10 + 4 * t:30 + 4 * t, 8:28] = (220, 30, 30)
    texts = ['the red square', 'the object']
    out = []
    for hidden in (False, True):
        if hidden:
            hide_sam2(monkeypatch)
        model = init_model('glus_tiny_moving-shapes')
        assert type(model.mask_head.sam2).__name__ == ('TrackerParts' if hidden else 'SAM2Base')
        out.append(GLUSInferencer(model)(video, texts, return_logits=True))
    stock, other = out
    assert all(np.any(mask) for mask in stock['masks'][1])
    for e in range(len(texts)):
        for t in range(len(video)):
            logits = stock['low_res_logits'][e][t]
            assert (logits is None) == (other['low_res_logits'][e][t] is None)
            if logits is not None:
                assert is_same_mask(*(torch.as_tensor(r['low_res_logits'][e][t]) for r in
                                      (other, stock)))
