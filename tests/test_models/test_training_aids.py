"""Losses on states inside of the LLM, what they read, and the stage of the vision tower."""

import pytest
import torch

from glus_mm.models.losses import GroundingLoss, MotionLoss
from glus_mm.registry import MODELS, build_child
from glus_mm.structures import RefVOSDataSample

CONTEXT, QUERY = (0, 3, 6), (2, 4)
LOSSES = {'loss_motion': dict(type='MotionLoss', layers=(0, 1), track=(1, )),
          'loss_grounding': dict(type='GroundingLoss', layer=1),
          'mllm.pooling': 'none', 'mllm.llm.num_attention_heads': 4,
          'mllm.llm.num_key_value_heads': 2}
WORDS = dict(colour=['red', 'blue'], shape=['circle', 'star'])


def add_objects(samples, grid=4, context=CONTEXT, query=QUERY):
    """Two objects: the first moves to the right by a cell a frame, the second stands still."""
    frames = [*context, *query]
    cells = torch.zeros(2, len(frames), grid, grid)
    centres = torch.zeros(2, len(frames), 2)
    for f in range(len(frames)):
        cells[0, f, 0, f % grid] = 1
        cells[1, f, 2, 1] = 0.5
        centres[0, f] = torch.tensor([(f % grid + 0.5) / grid, 0.5 / grid])
        centres[1, f] = torch.tensor([1.5 / grid, 2.5 / grid])
    for sample in samples:
        sample.set_metainfo(dict(
            context_frame_ids=list(context), query_frame_ids=list(query),
            object_ids=tuple(('a', 'b')[e % 2:e % 2 + 1] for e in range(len(sample.exp_ids)))))
        sample.set_data(dict(
            object_names=['a', 'b'], object_cells=cells, object_centres=centres,
            object_sizes=torch.full((2, len(frames)), 0.2),
            object_lit=torch.zeros(2, len(frames), dtype=torch.bool),
            object_words=[dict(colour='red', shape='star'), dict(colour='blue', shape='star')]))
    return samples


@pytest.fixture
def batch(make_glus, make_batch, video):
    """A model with both losses, and inputs of two videos with two and one expressions."""
    model = make_glus(LOSSES)
    inputs, samples = make_batch(model, [
        (video, ['the red star', 'all stars'], CONTEXT, QUERY),
        (video, ['the blue star'], CONTEXT, QUERY)])
    return model, inputs, add_objects(samples)


def test_both_losses_reach_the_llm_and_nothing_else_changes(batch, make_glus):
    model, inputs, samples = batch
    losses = model.loss(inputs, samples)
    assert losses['loss_motion'] > 0 and losses['loss_grounding'] > 0
    plain = make_glus({key: value for key, value in LOSSES.items() if 'loss' not in key})
    assert not plain.load_state_dict(model.state_dict(), strict=False).missing_keys
    for name, value in plain.loss(inputs, samples).items():
        torch.testing.assert_close(losses[name], value, rtol=0, atol=0)
    for name in ('loss_motion', 'loss_grounding'):
        model.zero_grad()
        model.loss(inputs, samples)[name].backward()
        first, second = (layer.self_attn for layer in model.mllm.llm.layers)
        assert first.q_proj.weight.grad.abs().sum() > 0
        assert second.k_proj.weight.grad.abs().sum() > 0 and second.v_proj.weight.grad is None


def test_samples_without_objects_have_no_such_loss(batch):
    model, inputs, samples = batch
    bare = [RefVOSDataSample(metainfo=dict(sample.metainfo_items())) for sample in samples]
    for mine, sample in zip(bare, samples):
        mine.gt_masks = sample.gt_masks
    assert not {'loss_motion', 'loss_grounding'} & set(model.loss(inputs, bare))
    # Video data without objects beside one with them.
    mixed = model.loss(inputs, [samples[0], bare[1]])
    alone = model.loss({key: value[:1] for key, value in inputs.items()}, samples[:1])
    for name in ('loss_motion', 'loss_grounding'):
        torch.testing.assert_close(mixed[name], alone[name])


@pytest.mark.parametrize('shared', [True, False])
def test_attention_is_the_one_that_the_llm_pays(batch, shared):
    model, inputs, samples = batch
    mllm = model.mllm
    visual = [mllm.encode_images(imgs) for imgs in inputs['clip_imgs']]
    ids = [torch.as_tensor(row) for rows in inputs['input_ids'] for row in rows]
    labels = [torch.as_tensor(row) for rows in inputs['labels'] for row in rows]
    visual = [visual[0], visual[0], visual[1]]
    seg, _, _ = mllm(ids, labels, visual, 'answer', groups=[0, 0, 1] if shared else None,
                     layers=[1])
    rows = [0, 1, 2]
    words = [seg.trace.answers[n][1] for n in rows]
    images = [seg.trace.images[n][len(CONTEXT) + 1] for n in rows]
    found = mllm.attention(1, seg.trace, rows, words, images)
    mllm.llm.set_attn_implementation('eager')
    weights = []
    hook = mllm.llm.layers[1].self_attn.register_forward_hook(
        lambda _, args, out: weights.append(out[1]))
    mllm(ids, labels, visual, 'answer')
    hook.remove()
    for n, (word, image) in enumerate(zip(words, images)):
        true = weights[0][n, :, word, image:image + seg.trace.per_image].log()
        torch.testing.assert_close(found[n], true, rtol=1e-6, atol=1e-6)


def test_images_and_answers_are_found_in_the_conversation(batch):
    model, inputs, _ = batch
    mllm, tokenizer = model.mllm, model.mllm.tokenizer
    ids = torch.as_tensor(inputs['input_ids'][0][0])
    visual = mllm.encode_images(inputs['clip_imgs'][0])
    seg, _, _ = mllm([ids], [ids], [visual], 'answer', layers=[0])
    trace = seg.trace
    assert len(trace.images[0]) == len(CONTEXT) + len(QUERY)
    for number, start in enumerate(trace.images[0]):
        torch.testing.assert_close(trace.visual(0, [0], [start])[0], visual[number])
    word = mllm.llm.get_input_embeddings().weight[tokenizer.encode('all is')[-1]]
    for place in trace.answers[0]:
        torch.testing.assert_close(trace.states[0][trace.index[0, place]], word)


def test_a_layer_that_is_not_there_is_refused(make_glus, make_batch, video):
    model = make_glus({'loss_motion': dict(type='MotionLoss', layers=(7, ))})
    inputs, samples = make_batch(model, [(video, ['the star'], CONTEXT, QUERY)])
    with pytest.raises(ValueError, match=r'layers of model\.mllm\.llm in 0\.\.2, got 7'):
        model.loss(inputs, add_objects(samples))


# The losses alone


def no_attention(layer, tokens):
    raise AssertionError('asked for')


def test_motion_is_zero_where_the_state_tells_it(make_sample):
    sample, = add_objects([make_sample(['x'])])
    loss = MotionLoss(width=3, layers=(2, ), beta=0.05, loss_weight=10.0)
    # Between context frames a cell a frame; query frames are to tell the mean of that.
    states = torch.zeros(5, 16, 3)
    for f in range(5):
        states[f, f % 4, 0] = 0.25
    # Nothing is read yet: the mean over all tokens with an object, of both axes.
    expected = 10 * 4 * (0.25 - 0.025) / (8 * 2)
    found = loss({2: [states]}, no_attention, [sample])
    torch.testing.assert_close(found.item(), expected)
    with torch.no_grad():
        loss.readers['2'].weight[0, 0] = loss.readers['2'].weight[1, 1] = 20
    torch.testing.assert_close(loss({2: [states]}, no_attention, [sample]).item(), 0.0)


def test_the_input_of_the_llm_is_read_as_a_difference(make_sample):
    """What does not change from frame to frame says nothing of motion."""
    sample, = add_objects([make_sample(['x'])], context=(0, 2, 4, 6), query=())
    sample.object_cells, sample.object_centres = (
        sample.object_cells[:, :4], sample.object_centres[:, :4])
    loss = MotionLoss(width=2, layers=(0, ))
    with torch.no_grad():
        loss.readers['0'].weight.copy_(20 * torch.eye(2))
    places = torch.zeros(4, 16, 2)
    for f in range(4):
        places[f, f] = torch.tensor([(f + 0.5) / 4, 0.125])
        places[f, 9] = torch.tensor([0.375, 0.625])
    torch.testing.assert_close(
        loss({0: [places + 7]}, no_attention, [sample]).item(), 0.0, atol=1e-6, rtol=0)


def test_half_of_the_heads_follow_the_object(make_sample):
    sample, = add_objects([make_sample(['x'])])
    loss = MotionLoss(width=2, layers=(1, ), track=(3, ), loss_weight=0.0, track_weight=2.0)

    def attention(layer, tokens):
        (frame, place), = tokens
        assert layer == 3 and frame.tolist() == [1, 1, 2, 2, 3, 3, 4, 4]
        assert place.tolist() == [1, 9, 2, 9, 3, 9, 0, 9]
        paid = torch.full((8, 4, 16), 0.01)
        for k, before in enumerate([0, 9, 1, 9, 2, 9, 3, 9]):
            paid[k, :2, before] = 0.5
        return paid.log()

    found = loss({1: [torch.zeros(5, 16, 2)]}, attention, [sample])
    torch.testing.assert_close(found, -2 * torch.tensor(0.5).log())


def test_what_motion_wants(make_sample):
    sample, = add_objects([make_sample(['x'])])
    sample.object_centres[:] = float('nan')
    loss = MotionLoss(width=2, layers=(1, ), track=(0, ))
    states = torch.zeros(5, 16, 2, requires_grad=True)
    value = loss({1: [states]}, lambda layer, tokens: torch.zeros(0, 4, 16), [sample])
    value.backward()
    assert value == 0 and states.grad.isfinite().all()
    sample, = add_objects([make_sample(['x'])])
    with pytest.raises(ValueError, match=r"video 'video': expected object_cells on 4 frames of 9 "
                                         r'visual tokens, got \(5, 16\)'):
        MotionLoss(width=2, layers=(1, ))({1: [torch.zeros(4, 9, 2)]}, no_attention, [sample])
    with pytest.raises(ValueError, match='at least one layer, got none'):
        MotionLoss(width=2, layers=())


def test_grounding_falls_as_attention_and_content_find_the_target():
    loss = GroundingLoss(width=2)
    with torch.no_grad():
        for part in (loss.word, loss.visual):
            part.weight.copy_(torch.eye(2))
            part.bias.zero_()
    words = torch.tensor([[9.0, 0.0]])
    visual = torch.tensor([[[9.0, 0.0], [0.0, 9.0], [0.0, 9.0]]])
    sharp = torch.tensor([[[0.98, 0.005, 0.005]]]).log()
    right, wrong = torch.tensor([[0.9, 0.0, 0.0]]), torch.tensor([[0.0, 0.2, 0.0]])
    only = torch.tensor([0])
    assert loss(words, visual, sharp, right, only) < 0.03
    assert loss(words, visual, sharp, wrong, only) > 50
    # Of two objects each has to be looked at; in a single one any place will do.
    single, two = torch.tensor([[0.9, 0.9, 0.0]]), torch.tensor([[0.9, 0.0, 0.0], [0.0, 0.9, 0.0]])
    even, one = (torch.tensor([[values]]).log()
                 for values in ([0.49, 0.49, 0.02], [0.97, 0.01, 0.02]))
    both = torch.tensor([0, 0])
    assert loss(words, visual, even, two, both) < loss(words, visual, one, two, both) - 1
    torch.testing.assert_close(loss(words, visual, even, single, only),
                               loss(words, visual, one, single, only))
    # Below the least coverage, and with no target at all: no part in the mean.
    more = loss(words.repeat(3, 1), visual.repeat(3, 1, 1), sharp.repeat(3, 1, 1),
                torch.cat([right, torch.full((1, 3), 0.1)]), torch.tensor([0, 1]))
    torch.testing.assert_close(more, loss(words, visual, sharp, right, only))
    words.requires_grad_()
    nothing = loss(words, visual, sharp, torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64))
    nothing.backward()
    assert nothing == 0 and words.grad.isfinite().all()


# The stage of the vision tower


@pytest.fixture
def make_pretrainer(tiny_cfg):

    def make(**options):
        torch.manual_seed(0)
        mllm = dict(tiny_cfg({'mllm.pooling': 'none'})['mllm'], seg_dim=32)
        return build_child(MODELS, dict(
            dict(type='VisionPretrainer', mllm=mllm, words=WORDS), **options))

    return make


def test_the_vision_stage_learns_and_its_weights_are_those_of_glus(
        make_pretrainer, make_glus, make_sample):
    model = make_pretrainer()
    imgs = torch.randn(5, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    inputs, samples = dict(clip_imgs=[imgs]), add_objects([make_sample(['x'])])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    totals = []
    for _ in range(40):
        out = model(inputs, samples, mode='loss')
        total, _ = model.parse_losses(out)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        totals.append(total.item())
    assert totals[-1] < 0.2 * totals[0]
    assert out['acc_colour'] == 1 and out['place_error'] < 0.05
    assert set(out) == {'loss_object', 'loss_lit', 'loss_place', 'loss_size', 'place_error',
                        'loss_colour', 'acc_colour', 'loss_shape', 'acc_shape'}
    glus = make_glus({'mllm.pooling': 'none'}, torch.float32)
    found = glus.load_state_dict(model.state_dict(), strict=False)
    assert sorted(found.unexpected_keys) == ['reader.bias', 'reader.weight']
    assert all(key.startswith('mask_head.') for key in found.missing_keys)


def test_the_start_and_the_end_of_the_vision_stage(make_pretrainer):
    layer = make_pretrainer().mllm.llm.layers[1].self_attn
    torch.testing.assert_close(layer.k_proj.weight, layer.q_proj.weight, rtol=0, atol=0)
    layer = make_pretrainer(tie_keys=False).mllm.llm.layers[1].self_attn
    assert not torch.equal(layer.k_proj.weight, layer.q_proj.weight)
    with pytest.raises(ValueError, match="words of one token .*got 'xylophone', which has"):
        make_pretrainer(words=dict(shape=['xylophone']))
    with pytest.raises(ValueError, match="VisionPretrainer only trains, got mode 'predict'"):
        make_pretrainer()({}, [], mode='predict')
