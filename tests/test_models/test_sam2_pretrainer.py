"""Stage 0: losses, gradients, points, and targets that are not visible."""

import pytest
import torch

from glus_mm.models import SAM2Pretrainer
from glus_mm.registry import MODELS, build_child


@pytest.fixture
def make_pretrainer(tiny_cfg):

    def make(**options):
        torch.manual_seed(0)
        return build_child(MODELS, dict(
            type='SAM2Pretrainer', mask_head=tiny_cfg()['mask_head'], **options))

    return make


def batch(make_sample, masks):
    """``masks``: B of (E, Tq, H, W)."""
    generator = torch.Generator().manual_seed(0)
    imgs = [torch.randn(m.shape[1], 3, 64, 64, generator=generator) for m in masks]
    samples = [make_sample(['x'] * len(m), gt_masks=m.byte()) for m in masks]
    return dict(sam_imgs=imgs), samples


def square(num_expressions, num_frames):
    masks = torch.zeros(num_expressions, num_frames, 40, 56)
    for e in range(num_expressions):
        masks[e, :, 4 * e:4 * e + 12, 10:30] = 1
    return masks


def test_what_is_drawn(make_pretrainer, make_sample):
    model = make_pretrainer()
    inputs, samples = batch(make_sample, [square(2, 3), square(1, 3)])
    out = model(inputs, samples, mode='loss')
    assert set(out) == {'loss_mask_bce', 'loss_mask_dice', 'iou'}
    assert all(value.ndim == 0 and value.isfinite() for value in out.values())
    assert 0 <= out['iou'] <= 1 and not out['iou'].requires_grad
    total, log = model.parse_losses(out)
    assert log['iou'] == out['iou'] and total == out['loss_mask_bce'] + out['loss_mask_dice']
    total.backward()
    sam = model.mask_head.sam2
    for part in (sam.image_encoder, sam.memory_encoder, sam.memory_attention,
                 sam.sam_mask_decoder, sam.sam_prompt_encoder):
        assert any(p.grad is not None and p.grad.any() for p in part.parameters())
    inputs, samples = batch(make_sample, [square(2, 3)])
    values = [make_pretrainer(seed=seed).loss(inputs, samples)['loss_mask_bce'].item()
              for seed in (1, 1, 2)]
    assert values[0] == values[1] != values[2]


def test_prompts(make_pretrainer):
    model = make_pretrainer()
    masks = torch.zeros(20, 64, 64)
    masks[:, 30, 12] = 1
    tokens = model._point_tokens(masks, drop=False)
    # SAM-2 takes points as (x, y).
    point = (torch.tensor([[[12., 30.]]]), torch.ones(1, 1))
    expected, _ = model.mask_head.sam2.sam_prompt_encoder(points=point, boxes=None, masks=None)
    torch.testing.assert_close(tokens, expected[:, 0].expand_as(tokens))
    masks = torch.zeros(3, 64, 64)
    for i in range(2):  # the last one is not visible
        masks[i, 10 * i + 5, 20] = 1
    shown = make_pretrainer()._point_tokens(masks, drop=False)
    dropped = make_pretrainer(drop_prompt=1.0)._point_tokens(masks, drop=True)
    kept = make_pretrainer(drop_prompt=0.0)._point_tokens(masks, drop=True)
    assert torch.equal(dropped, dropped[:1].expand(3, -1))
    assert torch.equal(shown[2], dropped[0])
    assert torch.equal(kept, shown) and not torch.equal(shown[0], shown[1])


def test_one_token_names_all_parts_of_a_mask(make_pretrainer):
    """What is much smaller than the largest part is no part, but a splinter."""
    model = make_pretrainer()
    masks = torch.zeros(1, 64, 64)
    masks[0, 30, 12] = masks[0, 8, 50] = 1
    tokens = model._point_tokens(masks, drop=False)
    points = (torch.tensor([[[12., 30.]], [[50., 8.]]]), torch.ones(2, 1))
    expected, _ = model.mask_head.sam2.sam_prompt_encoder(points=points, boxes=None, masks=None)
    torch.testing.assert_close(tokens[0], expected[:, 0].mean(0))
    masks[0, 20:40, 2:22] = 1
    only = masks.clone()
    only[0, 8, 50] = 0
    assert torch.equal(make_pretrainer()._point_tokens(masks, drop=False),
                       make_pretrainer()._point_tokens(only, drop=False))


def test_hidden_objects(make_pretrainer, make_sample):
    masks = square(3, 2)
    masks[1, 0] = 0
    out = make_pretrainer().loss(*batch(make_sample, [masks]))
    expected = make_pretrainer().loss(*batch(make_sample, [masks[[0, 2]]]))
    torch.testing.assert_close(out, expected)
    model = make_pretrainer()
    out = model.loss(*batch(make_sample, [square(2, 2) * 0]))
    assert {key: value.item() for key, value in out.items()} == dict(
        loss_mask_bce=0, loss_mask_dice=0, iou=0)
    model.parse_losses(out)[0].backward()
    grads = [p.grad for p in model.parameters() if p.grad is not None]
    assert grads and not any(grad.any() for grad in grads)
    with pytest.raises(ValueError, match=r'drop_prompt must be a number in 0\.\.1, got 1\.5'):
        make_pretrainer(drop_prompt=1.5)
    with pytest.raises(TypeError, match='drop_promt'):
        make_pretrainer(drop_promt=0.5)
    with pytest.raises(ValueError, match="only trains, got mode 'predict'"):
        make_pretrainer()(*batch(make_sample, [square(1, 2)]), mode='predict')
    assert issubclass(SAM2Pretrainer, torch.nn.Module)


def test_weights_load_into_glus_by_name(make_pretrainer, make_glus):
    state, glus = make_pretrainer().state_dict(), make_glus(dtype=torch.float32).state_dict()
    assert set(state) == {key for key in glus if key.startswith('mask_head.')}
    assert all(state[key].shape == glus[key].shape for key in state)
