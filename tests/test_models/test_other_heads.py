"""SAM 3's tracker and EdgeTAM as mask heads: trained, tested and loaded at tiny size."""

from importlib.util import find_spec

import pytest
import torch
import transformers
from mmengine import Config

from glus_mm.apis import GLUSInferencer
from glus_mm.models import MemoryBank
from glus_mm.registry import MODELS, build_child
from programs import ROOT

CONFIGS = ROOT / 'configs' / 'glus'
EXPRESSIONS = ('the red circle', 'all stars')
HEADS = [
    pytest.param(('edgetam', 'EdgeTamVideoModel', 32), marks=pytest.mark.skipif(
        find_spec('timm') is None, reason='the image encoder of EdgeTAM is in timm')),
    ('sam3-tracker', 'Sam3TrackerVideoModel', 64)]


def head_config(name):
    model = Config.fromfile(CONFIGS / f'glus_tiny_{name}_moving-shapes.py').model
    return model.mask_head.to_dict(), model.data_preprocessor.to_dict()


@pytest.fixture(scope='module', params=HEADS)
def made(request, tiny_cfg):
    """A small GLUS with the head of a shipped config, its name and class, tokens of a memory."""
    name, theirs, tokens = request.param
    cfg = tiny_cfg()
    cfg['mask_head'], cfg['data_preprocessor'] = head_config(name)
    torch.manual_seed(0)
    return build_child(MODELS, cfg), name, theirs, tokens


def test_a_step_of_training_reaches_all_parts(made, make_batch, video):
    model = made[0].train()
    inputs, samples = make_batch(model, [(video, EXPRESSIONS, [0, 4], [1, 2, 3])])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    losses = []
    for _ in range(3):
        parts = model.loss(inputs, samples)
        loss = sum(value for key, value in parts.items() if 'loss' in key)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    sam = model.mask_head.sam2
    for part in (sam.image_encoder, sam.memory_attention, sam.memory_encoder, sam.sam_mask_decoder,
                 *([sam.spatial_perceiver] if hasattr(sam, 'spatial_perceiver') else [])):
        assert any(p.grad is not None and p.grad.any() for p in part.parameters())
    model.zero_grad(set_to_none=True)


def test_segments_a_video(made, emit_seg, video):
    model = emit_seg(made[0].eval(), video, EXPRESSIONS)
    out = GLUSInferencer(model)(video, list(EXPRESSIONS), return_logits=True)
    assert out['masks'][0][0].shape == video[0].shape[:2]
    assert out['low_res_logits'][0][0].shape == (model.mask_head.mask_side, ) * 2
    assert model.mask_head.mask_side == 32


@torch.no_grad()
def test_batch_memory_and_clicks(made):
    """Tracks one by one as in a batch; what is remembered, and clicks, change the mask."""
    head, tokens = made[0].mask_head.eval(), made[3]
    generator = torch.Generator().manual_seed(0)
    side = head.image_size
    feats = head.extract_feat(torch.randn(3, 3, side, side, generator=generator))
    seg = torch.randn(3, 2, head.token_dim, generator=generator)

    def track(rows, points=None):
        banks, out = [MemoryBank() for _ in rows], []
        for t in range(3):
            pred = head(feats.select(torch.full((len(rows), ), t)), seg[t, rows], banks, t,
                        points if t == 2 else None)
            entries = head.encode_memory(pred)
            assert entries.shape == (len(rows), tokens, 64)
            for bank, entry in zip(banks, entries):
                bank.add(t, entry)
            out.append(pred.low_res_logits)
        return torch.stack(out)

    both = track([0, 1])
    for i in range(2):
        torch.testing.assert_close(track([i])[:, 0], both[:, i], rtol=1e-3, atol=1e-4)
    alone = head(feats.select(torch.tensor([2])), seg[2, :1], [MemoryBank()], 0).low_res_logits
    assert (alone[0] - both[2, 0]).abs().max() > 1e-5
    points = torch.tensor([[[20., 30.]]]), torch.tensor([[1]])
    assert (track([0], points)[2, 0] - both[2, 0]).abs().max() > 1e-3


@torch.no_grad()
def test_weights_of_a_folder_are_loaded(made, tmp_path):
    """What transformers writes; its own model sees the same features and makes the same mask."""
    _, name, theirs, _ = made
    cfg, _ = head_config(name)
    torch.manual_seed(1)
    kind = getattr(transformers, theirs)
    model = kind(kind.config_class(image_size=cfg['image_size'], **cfg['model'])).eval()
    model.mask_decoder.dynamic_multimask_via_stability = False
    model.save_pretrained(tmp_path / 'weights')
    head = build_child(MODELS, dict(cfg, model=str(tmp_path / 'weights'))).eval()
    side = cfg['image_size']
    image = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    feats = head.extract_feat(image)
    levels = model.get_image_features(image).fpn_hidden_states
    for ours, flat in zip((*feats.high_res, feats.top), levels):
        torch.testing.assert_close(ours[0], flat[:, 0].T.unflatten(1, ours.shape[2:]))
    points = torch.tensor([[[20., 30.]]]), torch.tensor([[1]])
    token = head.point_tokens(*points)[:, 0]
    pred = head(feats, token, [MemoryBank()], 0)
    top = feats.top + model.no_memory_embedding.view(1, -1, 1, 1)
    dense = model.prompt_encoder.no_mask_embed.weight.view(1, -1, 1, 1).expand_as(top)
    masks, scores, _, _ = model.mask_decoder(
        image_embeddings=top, image_positional_embeddings=model
        .get_image_wide_positional_embeddings(), sparse_prompt_embeddings=token[:, None, None],
        dense_prompt_embeddings=dense, multimask_output=False,
        high_resolution_features=list(feats.high_res))
    torch.testing.assert_close(pred.low_res_logits, masks[:, 0, 0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(pred.scores, scores[:, 0, 0], rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match=f'is for images of side {side}.* got 64'):
        build_child(MODELS, dict(cfg, model=str(tmp_path / 'weights'), image_size=64))
    with pytest.raises(FileNotFoundError, match='in model.mask_head.model, got nothing there'):
        build_child(MODELS, dict(cfg, model=str(tmp_path / 'none')))
