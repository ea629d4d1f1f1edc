"""Simulated clicks: where they are, what they train, and that a run resumes with the same ones."""

import pytest
import torch

from glus_mm.engine.run_randomness import random_state, set_random_state
from glus_mm.models.segmentors.batch import correcting_clicks, draw_points


def blank(*boxes):
    masks = torch.zeros(len(boxes), 32, 32, dtype=torch.bool)
    for mask, box in zip(masks, boxes):
        if box is not None:
            top, bottom, left, right = box
            mask[top:bottom, left:right] = True
    return masks


def test_points_are_spread_over_the_region():
    regions = blank((4, 8, 10, 30), None)
    points = draw_points(regions, 400, torch.Generator().manual_seed(0))
    assert points.shape == (2, 400, 2)
    x, y = points[0].unbind(1)
    assert set(y.tolist()) == {4, 5, 6, 7} and set(x.tolist()) == set(range(10, 30))
    assert points[1].min() < 2 and points[1].max() > 29


def test_clicks_correct_what_is_wrong():
    # Right half missing; too large; right; right and empty; all of it wrong.
    true = blank((0, 8, 0, 20), (8, 12, 8, 12), (2, 4, 2, 4), None, None)
    pred = blank((0, 8, 0, 10), (8, 12, 8, 30), (2, 4, 2, 4), None, (0, 9, 0, 9))
    seen = [set() for _ in range(5)]
    numbers = set()
    generator = torch.Generator().manual_seed(0)
    for _ in range(60):
        coords, labels = correcting_clicks(pred, true, 3, generator)
        assert coords.shape == (5, 3, 2) and labels.shape == (5, 3)
        for row in range(5):
            used = labels[row] >= 0
            seen[row] |= set(labels[row][used].tolist())
            numbers.add((row, int(used.sum())))
            for (x, y), label in zip(coords[row][used].long().tolist(), labels[row][used]):
                assert true[row, y, x] == bool(label)
                assert pred[row, y, x] != bool(label) or row == 2
    assert seen == [{1}, {0}, {1}, set(), {0}]
    assert numbers == {(row, n) for row in (0, 1, 2, 4) for n in (1, 2, 3)} | {(3, 0)}


@pytest.fixture(scope='module')
def trainable(make_glus, make_batch, video):

    def make(**options):
        model = make_glus({f'train_cfg.{name}': value for name, value in options.items()})
        videos = [(video, ['the red circle', 'a star'], (0, 4), (0, 1, 2))]
        return model, make_batch(model, videos)

    return make


def mask_loss(model, batch):
    return model.loss(*batch)['loss_mask_bce'].item()


def test_a_share_of_the_masks_is_clicked(trainable):
    model, batch = trainable()
    plain = mask_loss(model, batch)
    assert not hasattr(model, 'generator')
    model, _ = trainable(click_prob=1.0)
    seen = []
    model.mask_head.register_forward_pre_hook(
        lambda module, args: seen.append(args[4] if len(args) > 4 else None))
    assert mask_loss(model, batch) != plain
    # Each frame is decoded without clicks first, without a graph.
    assert [points is None for points in seen] == [True, False] * 3
    assert all((points[1] >= 0).any(1).all() for points in seen[1::2])
    model, _ = trainable(click_prob=1e-9)
    assert mask_loss(model, batch) == plain


def test_a_share_of_the_seg_tokens_is_another_expressions(trainable):
    model, batch = trainable(click_prob=1e-9)
    plain, seen = [], []
    for prob, tokens in ((0.0, plain), (1.0, seen)):
        model, _ = trainable(click_prob=1e-9, mistaken_prob=prob)
        model.mask_head.register_forward_pre_hook(
            lambda module, args, tokens=tokens: tokens.append(args[1:2] + args[4:]))
        mask_loss(model, batch)
    # Two expressions: each gets the other's token, and clicks on every frame.
    for (own, *_), (other, points) in zip(plain, seen[1::2]):
        assert torch.equal(other, own.flip(0)) and (points[1] >= 0).any(1).all()
    assert len(plain) * 2 == len(seen) == 6
    model.loss(*batch)['loss_mask_bce'].backward()
    assert not any(p.grad.any() for p in model.mllm.parameters() if p.grad is not None)


def test_clicks_train_the_prompt_encoder_too(trainable):
    model, batch = trainable(click_prob=1.0)
    batch[1][0].gt_masks[:, 1:] = 0  # off what is painted there
    model.loss(*batch)['loss_mask_bce'].backward()
    encoder = model.mask_head.sam2.sam_prompt_encoder
    for label in (0, 1):
        assert encoder.point_embeddings[label].weight.grad.any()
    model, batch = trainable(click_prob=0.5)
    mask_loss(model, batch)
    state = random_state(model)
    expected = [mask_loss(model, batch) for _ in range(3)]
    assert len(set(expected)) == 3
    other, _ = trainable(click_prob=0.5, click_seed=7)
    set_random_state(state, other)
    assert [mask_loss(other, batch) for _ in range(3)] == expected


def test_frames_without_a_mask_get_no_clicks(trainable, make_glus):
    _, batch = trainable()
    batch[1][0].gt_masks[:] = 0
    values = []
    for probability in (0.0, 1.0):
        model = make_glus({'existence': 'answer', 'train_cfg.click_prob': probability})
        values.append(model.loss(*batch)['loss_ce'].item())
    assert values[0] == values[1]


@pytest.mark.parametrize('options, match', [
    (dict(click_prob=1.5), r'model\.train_cfg\.click_prob must be a number in 0\.\.1, got 1\.5'),
    (dict(click_prob=0.1, mistaken_prob=-1),
     r'model\.train_cfg\.mistaken_prob must be a number in 0\.\.1, got -1'),
    (dict(mistaken_prob=0.1), r'mistaken_prob needs simulated clicks: expected .*click_prob above'),
    (dict(max_clicks=0), r'model\.train_cfg\.max_clicks must be an integer of at least 1, got 0'),
])
def test_refused_settings(trainable, options, match):
    with pytest.raises(ValueError, match=match):
        trainable(**options)
