"""KeyFrameSelector: the official rules, scores that do not depend on what is shared, training."""

import copy

import numpy as np
import pytest
import torch
from mmengine import Config

from glus_mm.models import KeyFrameSelector
from glus_mm.models.inference import ArrayReader
from glus_mm.models.selectors import KeyFrames, reference_frames
from glus_mm.registry import MODELS, build_child
from glus_mm.text.prompt import build_conversation, get_template, load_tokenizer
from glus_mm.utils.image import vision_tower_image


@pytest.fixture(scope='module')
def make_selector(tiny_cfg):
    def make(seed=0, dtype=torch.float64, **options):
        mllm = tiny_cfg({'mllm.template': 'selector_compact'})['mllm']
        cfg = Config(dict(model=dict(type='KeyFrameSelector', mllm=mllm)))
        cfg.merge_from_dict({f'model.{key}': value for key, value in options.items()})
        torch.manual_seed(seed)
        return build_child(MODELS, cfg.model.to_dict()).to(dtype).eval()
    return make


@pytest.fixture
def frames():
    rng = np.random.default_rng(1)
    return list(rng.integers(0, 255, (11, 20, 24, 3), dtype=np.uint8))


@pytest.mark.parametrize(('target', 'length', 'number', 'expected'), [
    (0, 12, 8, [0, 2, 4, 6, 8, 10]), (7, 12, 8, [1, 3, 5, 7, 9, 11]),
    (5, 20, 8, [2, 5, 8, 11, 14, 17]), (6, 20, 8, [0, 3, 6, 9, 12, 15, 18]),
    (0, 49, 8, list(range(0, 49, 7))), (48, 50, 8, list(range(0, 50, 8))),
    (0, 1, 8, [0]), (2, 3, 8, [0, 1, 2]), (3, 5, 2, [3])])
def test_reference_frames(target, length, number, expected):
    assert reference_frames(target, length, number) == expected


def test_reference_frames_always_hold_the_target():
    for length in range(1, 40):
        for number in range(2, 10):
            for target in range(length):
                frames = reference_frames(target, length, number)
                assert target in frames and 1 <= len(frames) <= number
                assert all(reference_frames(t, length, number) == frames for t in frames)


@pytest.mark.parametrize(('arguments', 'message'), [
    ((0, 5, 1), 'at least 2 reference frames, got 1'), ((5, 5, 3), r'a frame in 0\.\.4, got 5')])
def test_reference_frames_that_cannot_be(arguments, message):
    with pytest.raises(ValueError, match=message):
        reference_frames(*arguments)


def test_the_mlp_and_its_position(make_selector, frames, make_sample):
    """One frame at a time, the whole conversation by hand: the layers and the hidden state."""
    model = make_selector(**{'test_cfg.need_token': False, 'test_cfg.num_reference': 4})
    sample = make_sample()
    keys = model.select(ArrayReader(frames), sample)
    assert [layer.out_features for layer in model.mllm.seg_projector[::2]] == [32, 256]
    for t in (0, 3, 10):
        group = reference_frames(t, len(frames), 4)
        images = [vision_tower_image(frames[i], model.mllm.image_size, model.mllm.vision_crop)
                  for i in (*group, t)]
        images = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
        visual = model.mllm.encode_images(model.data_preprocessor.normalize_vision(images))
        for e, expression in enumerate(sample.expressions):
            ids, _ = build_conversation(model.mllm.tokenizer, model.mllm.template, expression,
                                        len(group), [0], [0])
            ids = torch.as_tensor(ids)
            hidden = model.mllm._run([ids], [visual])[0]
            # One position per id, V for each image, and the one before [SCORE] predicts it.
            place = int((ids == model.mllm.tokenizer.seg_id).nonzero()) - 1
            place += (visual.shape[1] - 1) * (len(group) + 1)
            first, _, second = model.mllm.seg_projector
            score = model.score(second(first(hidden[place]).relu()).relu())[0]
            torch.testing.assert_close(keys.scores[e, t].double(), score, rtol=0, atol=1e-6)
    expected = [max(range(len(frames)), key=lambda t: (row[t], t)) for row in keys.scores]
    assert keys.frame_ids == expected


def test_frames_and_chunks(make_selector, frames, make_sample):
    reader = ArrayReader(frames)
    whole = make_selector(**{'test_cfg.need_token': False}).select(reader, make_sample())
    single = make_selector(**{'test_cfg.need_token': False, 'test_cfg.max_expressions': 1}).select(
        reader, make_sample())
    torch.testing.assert_close(whole.scores, single.scores, rtol=0, atol=1e-6)
    assert whole.frame_ids == single.frame_ids
    model = make_selector(**{'test_cfg.need_token': False, 'test_cfg.num_reference': 4})
    encoded, reads = [], []

    class Reader(ArrayReader):
        def _read(self, frame_idx):
            reads.append(frame_idx)
            return super()._read(frame_idx)

    reader = Reader(frames)
    assert reader.shape == (20, 24)
    reads.clear()
    handle = model.mllm.vision_tower.register_forward_pre_hook(
        lambda _, args: encoded.append(len(args[0])))
    model.select(reader, make_sample())
    handle.remove()
    assert sorted(reads) == list(range(len(frames)))
    assert sum(encoded) == len(frames) and max(encoded) <= 4


def test_what_a_random_model_says(make_selector, frames, make_sample):
    """A random model says something else: the middle frame, and nan for every score."""
    keys = make_selector().select(ArrayReader(frames), make_sample())
    assert isinstance(keys, KeyFrames)
    assert keys.scores.isnan().all() and keys.frame_ids == [5, 5, 5]
    model = make_selector(**{'test_cfg.need_token': False})
    sample = model(dict(reader=[ArrayReader(frames)]), [make_sample()], mode='predict')[0]
    assert sample.pred_frame_scores.shape == (3, 11) and len(sample.key_frame_ids) == 3
    with pytest.raises(ValueError, match='SCORE'):
        make_selector().select(ArrayReader(frames), make_sample(['a [SCORE]']))


@pytest.mark.parametrize(('options', 'error', 'message'), [
    ({'test_cfg.num_reference': 1}, ValueError, r'num_reference .* at least 2, got 1'),
    ({'test_cfg.need_token': 1}, ValueError, 'need_token must be True or False'),
    ({'test_cfg.a_typo': 1}, TypeError, 'a_typo')])
def test_bad_settings(make_selector, options, error, message):
    with pytest.raises(error, match=message):
        make_selector(**options)


def batch_of(model, frames, expressions, targets):
    """Inputs and labels of two videos, two frames of which are scored."""
    template = model.mllm.template
    inputs = dict(clip_imgs=[], input_ids=[], labels=[])
    for target in targets:
        ids = [0, 4, 8, target]
        images = np.stack([vision_tower_image(frames[i], model.mllm.image_size,
                                              model.mllm.vision_crop) for i in ids])
        inputs['clip_imgs'].append(torch.from_numpy(images).permute(0, 3, 1, 2))
        texts = [build_conversation(model.mllm.tokenizer, template, expression, 3, [0], [0])
                 for expression in expressions]
        inputs['input_ids'].append([text for text, _ in texts])
        inputs['labels'].append([labels for _, labels in texts])
    return inputs


@pytest.mark.parametrize('lora', [None, dict(r=4)])
def test_training_lowers_both_losses(make_selector, make_sample, frames, lora):
    """And with all weights trained the selector soon says [SCORE], on other frames too."""
    trainable = ['llm*lora_*', 'llm.embed_tokens.*', 'lm_head.*', 'seg_projector.*']
    model = make_selector(dtype=torch.float32, **(
        {'mllm.lora': lora, 'mllm.trainable': trainable} if lora else {}))
    model.train()
    sample = make_sample(gt_scores=torch.tensor([[0.9], [0.1], [0.5]]))
    other = make_sample(gt_scores=torch.tensor([[0.2], [0.7], [0.0]]))
    inputs = batch_of(model, frames, sample.expressions, [2, 9])
    before = copy.deepcopy(inputs)
    data = model.data_preprocessor(dict(inputs=inputs, data_samples=[sample, other]), True)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=3e-3)
    history = []
    for _ in range(25):
        losses = model(**data, mode='loss')
        assert set(losses) == {'loss_score', 'loss_ce'}
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
        history.append({name: float(value.detach()) for name, value in losses.items()})
    assert history[-1]['loss_score'] < 0.8 * history[0]['loss_score']
    assert history[-1]['loss_ce'] < 0.5 * history[0]['loss_ce']
    if lora is None:
        keys = model.eval().select(ArrayReader(frames), sample)
        assert keys.scores.isfinite().all()
    assert all(torch.equal(a, b) for a, b in zip(before['clip_imgs'], inputs['clip_imgs']))


def test_losses_equal_those_by_hand(make_selector, make_sample, frames):
    model = make_selector()
    true = torch.tensor([[0.9], [0.1], [0.5]])
    sample = make_sample(gt_scores=true)
    inputs = batch_of(model, frames, sample.expressions, [2])
    data = model.data_preprocessor(dict(inputs=inputs, data_samples=[sample]), True)
    data['inputs']['clip_imgs'] = [imgs.double() for imgs in data['inputs']['clip_imgs']]
    losses = model(**data, mode='loss')
    scores, logits, targets = model._forward(data['inputs'])
    assert scores.shape == (3, 1)
    torch.testing.assert_close(losses['loss_score'], (scores - true).abs().mean())
    torch.testing.assert_close(losses['loss_ce'].float(), torch.nn.functional.cross_entropy(
        logits.float(), targets))
    # Whole answers are supervised: as many tokens as they have, the end included.
    labels = [np.count_nonzero(row != -100) for row in inputs['labels'][0]]
    assert len(targets) == sum(labels)
    model = make_selector()
    sample = make_sample(gt_scores=torch.zeros(3, 2))
    inputs = batch_of(model, frames, sample.expressions, [2])
    data = model.data_preprocessor(dict(inputs=inputs, data_samples=[sample]), True)
    data['inputs']['clip_imgs'] = [imgs.double() for imgs in data['inputs']['clip_imgs']]
    with pytest.raises(ValueError, match=r'= \(3, 1\), got \(3, 2\)'):
        model(**data, mode='loss')


def test_official_texts():
    """Word by word, with the frames as separate images and no marks around them."""
    template = get_template('selector')
    tokenizer = load_tokenizer('tiny', template)
    ids, labels = build_conversation(tokenizer, template, 'The dog.', 2, [0], [3])
    text = tokenizer.decode(list(ids[ids != -200]))
    assert 'USER: Reference Video:' in text and 'Target Image:' in text
    assert ('Does the Target Image provide enough information for localizing and segmenting the '
            'the dog in the Reference Video? Please respond with a confidence score.') in text
    assert tokenizer.decode(labels[labels >= 0]) == 'Sure, the prediction result is[SCORE].</s>'
    assert (ids == -200).sum() == 3 and tokenizer.im_start_id not in ids
    assert tokenizer.seg_id == len(tokenizer) - 1 and tokenizer.seg_id in labels
    assert MODELS.get('KeyFrameSelector') is KeyFrameSelector
