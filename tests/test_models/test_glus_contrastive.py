"""The contrastive loss within GLUS: identities, gradients, and the official training step."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from glus_mm.apis import init_model
from glus_mm.conversion import convert_glus
from glus_mm.conversion.official_weights import to_ours
from glus_mm.models import ObjectContrastiveLoss
from glus_mm.models.losses import token_identity
from glus_mm.structures import RefVOSDataSample
from glus_mm.utils.checkpoint import check_fit
from glus_mm.utils.image import read_image, sam2_image, vision_tower_image

FIXTURE = Path(__file__).resolve().parents[1] / 'data' / 'official_glus_tiny'
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


def test_no_key_unless_configured(step):
    model, inputs, samples = step({})
    assert set(model.loss(inputs, samples)) == {'loss_ce', 'loss_mask_bce', 'loss_mask_dice'}


def test_tokens_and_their_identities(step):
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


def test_gradient_reaches_the_projector_of_seg_tokens(step):
    model, inputs, samples = step({**SMALL, 'mllm.trainable': ['seg_projector.*']})
    model.train().loss(inputs, samples)['loss_contrastive'].backward()
    grads = {name for name, parameter in model.named_parameters()
             if parameter.grad is not None and parameter.grad.any()}
    assert grads and all(name.startswith('mllm.seg_projector.') for name in grads)


def test_weights_with_and_without_the_loss_fit_each_other(step):
    model, inputs, samples = step(SMALL)
    model.loss(inputs, samples)
    plain = step({})[0]
    assert check_fit(model, plain.state_dict(), 'plain') == []
    assert check_fit(plain, model.state_dict(), 'with the loss') == []


def test_a_typo_in_the_bank(make_glus):
    with pytest.raises(TypeError, match='sizes'):
        make_glus({'loss_contrastive': dict(type='ObjectContrastiveLoss', bank=dict(sizes=5))})


class OfficialDraws(ObjectContrastiveLoss):
    """Draws with Python's ``random`` in the order of the official code."""

    def draw(self, num_negatives, num_positives, generator):
        rows = [([random.randint(0, n - 1) for _ in range(self.num_negatives)],
                 random.choice(range(p)))
                for n, p in zip(num_negatives.tolist(), num_positives.tolist())]
        negatives, positives = zip(*rows)
        return torch.tensor(negatives), torch.tensor(positives)


def official_batch(model, record, videos):
    """The batch that the official loader made, from its files."""
    arrays = np.load(FIXTURE / 'train' / 'inputs.npz')
    inputs = dict(clip_imgs=[], sam_imgs=[], input_ids=[], labels=[])
    samples = []
    for b, item in enumerate(record['samples']):
        frames = [read_image(FIXTURE / name) for name in item['frame_files']]
        vision = np.stack([vision_tower_image(frame, 224) for frame in frames])
        inputs['clip_imgs'].append(torch.from_numpy(vision).permute(0, 3, 1, 2))
        inputs['sam_imgs'].append(torch.stack([sam2_image(frame, 1024) for frame in frames[4:]]))
        rows = range(*arrays['offset'][b:b + 2])
        lengths = [int(arrays['attention_masks'][row].sum()) for row in rows]
        for name in ('input_ids', 'labels'):
            inputs[name].append([arrays[name][r][:n] for r, n in zip(rows, lengths)])
        exps = [name.split('_', 2)[2] for name in item['str_ids']]
        expressions = videos[item['video']]['expressions']
        samples.append(RefVOSDataSample(
            metainfo=dict(
                dataset='mevis', video_id=item['video'], exp_ids=tuple(exps),
                object_ids=tuple(tuple(expressions[exp]['obj_id']) for exp in exps),
                query_frame_ids=item['question_frames']),
            gt_masks=torch.from_numpy(arrays[f'masks_b{b}']).to(torch.uint8)))
    data = model.data_preprocessor(dict(inputs=inputs, data_samples=samples), True)
    return data['inputs'], data['data_samples']


@pytest.mark.slow
def test_official_training_step(tmp_path):
    """All losses and gradient norms with the official contrastive term."""
    record = json.loads((FIXTURE / 'train' / 'expected.json').read_text())
    meta = json.loads((FIXTURE / 'train' / 'mevis' / 'train' / 'meta_expressions.json').read_text())
    tokens = np.load(FIXTURE / 'train' / 'contrastive.npz')['prefill_tokens']
    convert_glus(FIXTURE / 'checkpoint', tmp_path / 'tiny', clip=FIXTURE / 'clip',
                 sam2=str(FIXTURE / 'sam2_tiny_a.yaml'))
    model = init_model(tmp_path / 'tiny' / 'config.py', tmp_path / 'tiny' / 'model.pth',
                       cfg_options={
                           'model.mask_head.detach_memory': True,
                           'model.mask_head.trainable': ['sam2.sam_mask_decoder.*'],
                           'model.mllm.trainable': [
                               'llm.*', 'lm_head.*', 'projector.*', 'seg_projector.*']}).train()
    for module in model.modules():  # the fixture was made without dropout
        if hasattr(module, 'dropout_p'):
            module.dropout_p = 0.0
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    model.loss_contrastive = OfficialDraws(datasets=['mevis'])
    prefill = [(*name.split('_', 2), frame) for name, frame in record['contrastive']['prefill']]
    objects = [meta['videos'][video]['expressions'][exp]['obj_id'] if video in meta['videos']
               else [f'unknown {exp}'] for _, video, exp, _ in prefill]
    model.loss_contrastive(
        torch.from_numpy(tokens), [f'{dataset}/{video}' for dataset, video, _, _ in prefill],
        [exp for _, _, exp, _ in prefill], objects, [frame for _, _, _, frame in prefill])
    inputs, samples = official_batch(model, record, meta['videos'])
    expected = record['contrastive']['in_forward']
    random.seed(expected['random_seed_before_forward'])
    losses = model(inputs, samples, mode='loss')
    assert losses['loss_contrastive'].item() == pytest.approx(
        expected['losses']['contrastive_loss'], abs=1e-5)
    total = model.parse_losses(losses)[0]
    assert total.item() == pytest.approx(expected['losses']['loss'], rel=1e-4)
    assert len(model.loss_contrastive.bank) == expected['bank_size_after']
    total.backward()
    norms = {name: norm for name, norm in expected['grad_norms'].items() if norm is not None}
    assert norms
    ours = dict(model.named_parameters())
    for name, norm in norms.items():
        grad = ours[to_ours(name)].grad
        assert grad.norm().item() == pytest.approx(norm, rel=1e-3, abs=1e-5), name
