"""Talk, conversations without masks, in training: alone, and in a batch with referring samples."""

import numpy as np
import pytest
import torch
from official_order import train_officially

from glus_mm.text.prompt import build_talk
from glus_mm.utils.image import vision_tower_image

VIDEOS = (
    (['a star', 'the big blue square', 'x'], [0, 3, 5], [2, 3, 4]),
    (['all stars', 'a star that moves'], [0, 2, 4], [5, 6, 7]),
)
TALK = [[('<video>\nWhat moves?', 'a red star'), ('how many?', 'one')],
        [('<video>\nis there a star?', 'yes')]]


@pytest.fixture
def batch(make_batch, make_sample, video):
    """``batch(model, referring, talk)``: so many referring videos, then conversations of talk."""

    def make(model, referring=2, talk=1):
        inputs, samples = make_batch(model, [(video, *rest) for rest in VIDEOS])
        inputs = {key: list(values[:referring]) for key, values in inputs.items()}
        samples = list(samples[:referring])
        for sample, (names, context, query) in zip(samples, VIDEOS):
            sample.set_metainfo(dict(context_frame_ids=context, query_frame_ids=query,
                                     object_ids=tuple((name,) for name in names)))
            sample.gt_masks[0, 1] = 0
        for number in range(talk):
            frames = [1, 4 + number]
            images = np.stack([vision_tower_image(
                video[i], model.mllm.image_size, model.mllm.vision_crop) for i in frames])
            images = torch.from_numpy(images).permute(0, 3, 1, 2)
            texts = [build_talk(model.mllm.tokenizer, model.mllm.template, turns, 2)
                     for turns in TALK]
            side = model.mask_head.image_size
            inputs['clip_imgs'].append(model.data_preprocessor.normalize_vision(images))
            inputs['sam_imgs'].append(inputs['clip_imgs'][-1].new_zeros(0, 3, side, side))
            inputs['input_ids'].append([ids for ids, _ in texts])
            inputs['labels'].append([labels for _, labels in texts])
            sample = make_sample([turns[0][0] for turns in TALK])
            sample.set_metainfo(dict(context_frame_ids=frames, query_frame_ids=[],
                                     object_ids=((), ())))
            samples.append(sample)
        return inputs, samples

    return make


def supervised(inputs, b):
    return sum(int((labels != -100).sum()) for labels in inputs['labels'][b])


ANSWER = {'existence': 'answer', 'loss_iou': dict(type='MaskIoULoss')}


@pytest.mark.parametrize('options', [{}, ANSWER], ids=['mask', 'answer'])
@pytest.mark.parametrize('ce_target', ['seg', 'answer'])
def test_a_mixed_batch_is_the_mean_of_its_parts(make_glus, batch, ce_target, options):
    """Masks of the referring videos alone; answers of talk as a whole, whatever ``ce_target``."""
    model = make_glus({'ce_target': ce_target, **options})
    with torch.no_grad():
        referring = model.loss(*batch(model, 2, 0))
        talk = model.loss(*batch(model, 0, 2))
        inputs, samples = batch(model, 2, 2)
        mixed = model.loss(inputs, samples)
        turned = {key: values[::-1] for key, values in inputs.items()}
        reverse = model.loss(turned, samples[::-1])
    assert set(talk) == {'loss_ce'} and set(mixed) == set(referring)
    for name in referring.keys() - {'loss_ce'}:
        assert mixed[name].item() == pytest.approx(referring[name].item(), rel=1e-9)
    words = sum(supervised(inputs, b) for b in (2, 3))
    seg = 5 * 3 if ce_target == 'seg' else sum(supervised(inputs, b) for b in (0, 1))
    expected = (seg * referring['loss_ce'] + words * talk['loss_ce']) / (seg + words)
    # Cross-entropy is computed in float32.
    assert mixed['loss_ce'].item() == pytest.approx(expected.item(), rel=2e-6)
    for name, value in mixed.items():
        assert reverse[name].item() == pytest.approx(value.item(), rel=2e-6)


def test_talk_alone_and_without_seg(make_glus, batch):
    model = make_glus({'loss_contrastive': dict(type='ObjectContrastiveLoss')}).train()
    model.mask_head.sam2.image_encoder.register_forward_hook(lambda *_: pytest.fail('SAM-2 ran'))
    losses = model.loss(*batch(model, 0, 2))
    losses['loss_ce'].backward()
    trained = {name.split('.')[1] for name, p in model.named_parameters() if p.grad is not None
               and p.grad.abs().sum() > 0}
    assert trained == {'vision_tower', 'projector', 'llm', 'lm_head'}
    model = make_glus()
    inputs, samples = batch(model, 2, 0)
    inputs['input_ids'][1] = [np.where(ids == model.mllm.tokenizer.seg_id, 5, ids)
                              for ids in inputs['input_ids'][1]]
    with pytest.raises(ValueError, match=r'got \[3\] in 3 of 5 conversations'):
        model.loss(inputs, samples)


@pytest.mark.parametrize('options', [
    {}, {'train_cfg.one_token_seg_all': True}, {'loss_contrastive': dict(
        type='ObjectContrastiveLoss', num_negatives=2, positives='video')},
    {**ANSWER, 'train_cfg.click_prob': 0.5}],
    ids=['plain', 'one token', 'contrastive', 'answers and clicks'])
def test_reuse_changes_neither_losses_nor_gradients(make_glus, batch, options):
    results = []
    for officially in (False, True):
        model = train_officially(make_glus(options).train(), officially)
        inputs, samples = batch(model, 1, 2)
        if 'train_cfg.one_token_seg_all' in options:
            one_turn(model, inputs)
        losses = model.loss(inputs, samples)
        model.parse_losses(losses)[0].backward()
        results.append((losses, {n: p.grad for n, p in model.named_parameters()
                                 if p.grad is not None}))
    (losses, grads), (others, other_grads) = results
    assert losses.keys() == others.keys() and grads.keys() == other_grads.keys()
    for name, value in losses.items():
        assert value.item() == pytest.approx(others[name].item(), rel=1e-7), name
    total = sum(grad.square().sum() for grad in grads.values()).sqrt()
    for name, grad in grads.items():
        assert (grad - other_grads[name]).norm() <= 1e-6 * total, name


def one_turn(model, inputs):
    """Let the referring conversations end after their first turn."""
    end = model.mllm.tokenizer.eos_id
    for key in ('labels', 'input_ids'):
        inputs[key][0] = [row[:list(ids).index(end) + 1] for row, ids in zip(
            inputs[key][0], inputs['input_ids'][0])]
