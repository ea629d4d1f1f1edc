"""What expressions share is computed once in training, and losses and gradients stay the same."""

import pytest
import torch
from official_order import train_officially
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from glus_mm.models.mllms.layout import common_prefix, lay_out
from glus_mm.models.segmentors.batch import distinct_frames

# Videos with unequal numbers of expressions, and frames that are shown twice.
VIDEOS = (
    (['a star', 'the big blue square', 'x'], [0, 3, 5, 7], [2, 3, 4, 5]),
    (['all stars', 'a star that moves'], [0, 2, 4, 6], [6, 7, 7, 7]),
)
DISTINCT = (8 - 2, 8 - 1 - 2), (4, 2)
NO_DROPOUT = {'mllm.lora': dict(r=2, dropout=0.0)}


@pytest.fixture
def step(make_glus, make_batch, video):
    """``step(options, videos, officially)``: a model and its batch, with the frames named."""

    def make(options=None, videos=VIDEOS, officially=False):
        model = train_officially(make_glus(options).train(), officially)
        inputs, samples = make_batch(model, [(video, *rest) for rest in videos])
        for sample, (_, context, query) in zip(samples, videos):
            sample.set_metainfo(dict(context_frame_ids=context, query_frame_ids=query))
        return model, inputs, samples

    return make


def gradients(model, inputs, samples):
    losses = model(inputs, samples, mode='loss')
    model.zero_grad()
    model.parse_losses(losses)[0].backward()
    return losses, {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def assert_equal(results, others, rtol=1e-6):
    (losses, grads), (other_losses, other_grads) = results, others
    for name, value in losses.items():
        torch.testing.assert_close(value, other_losses[name], rtol=rtol, atol=0)
    assert grads.keys() == other_grads.keys() and grads
    total = sum(grad.square().sum() for grad in other_grads.values()).sqrt()
    for name, grad in grads.items():
        error = (grad - other_grads[name]).norm()
        assert error <= rtol * max(other_grads[name].norm(), 1e-6 * total), name


def record(model, name):
    """Shapes of what a module gets."""
    shapes = []
    model.get_submodule(name).register_forward_pre_hook(
        lambda _, args, kwargs: shapes.append(
            tuple((args[0] if args else kwargs['inputs_embeds']).shape)), with_kwargs=True)
    return shapes


@pytest.mark.parametrize('options', [
    {}, {'ce_target': 'seg'}, NO_DROPOUT, {'mllm.gradient_checkpointing': True},
    {'mllm.llm.attn_implementation': 'eager'}, {'mllm.trainable': ['seg_projector.*']},
    {'mllm.pooling': 'none'}],
    ids=['answer', 'seg', 'lora', 'checkpointing', 'eager', 'projector', 'all patches'])
def test_reuse_changes_neither_losses_nor_gradients(step, options):
    results = [gradients(*step(options, officially=officially)) for officially in (False, True)]
    assert_equal(*results)


@pytest.mark.parametrize('number', [1, 2, 3])
def test_encoders_see_each_frame_once_whatever_the_number_of_expressions(step, number):
    videos = [(['a', 'b', 'c'][:number], context, query) for _, context, query in VIDEOS]
    model, *batch = step({}, videos)
    vision = record(model, 'mllm.vision_tower')
    sam = record(model, 'mask_head.sam2.image_encoder')
    model(*batch, mode='loss')
    assert vision == [(sum(DISTINCT[0]), 3, 16, 16)]
    assert sam == [(sum(DISTINCT[1]), 3, 64, 64)]


@pytest.mark.parametrize('ce_target', ['seg', 'answer'])
def test_logits_only_where_the_loss_needs_them(step, ce_target):
    model, inputs, samples = step({'ce_target': ce_target})
    logits = record(model, 'mllm.lm_head')
    model(inputs, samples, mode='loss')
    supervised = sum(int((labels != -100).sum()) for rows in inputs['labels'] for labels in rows)
    (number, _), = logits
    assert number == (5 * 4 if ce_target == 'seg' else supervised)


def test_the_llm_sees_the_beginning_of_a_video_once(step):
    """As long as one video's conversations are: prefix, and what differs of each."""
    model, inputs, samples = step({'ce_target': 'seg'}, VIDEOS[:1])
    llm = record(model, 'mllm.llm')
    model(inputs, samples, mode='loss')
    rows = [torch.as_tensor(ids) for ids in inputs['input_ids'][0]]
    cut = common_prefix(rows)
    images = [int((row == -200).sum()) for row in rows] + [int((rows[0][:cut] == -200).sum())]
    assert images == [8, 8, 8, 5], 'the context frames and the first query frame'
    lengths = [len(row) + 3 * 8 for row in rows]  # four visual tokens for each frame
    shared = cut + 3 * 5
    assert llm == [(1, shared + sum(length - shared for length in lengths), 32)]


def test_videos_of_very_unequal_numbers_run_as_they_are(step):
    """One long sequence beside short ones would be mostly padding."""
    many, one = VIDEOS[0], (['a'], [0, 2, 4, 6], [4, 5, 6, 7])
    options = {'ce_target': 'seg'}
    model, *batch = step(options, [many, one, one, one])
    llm = record(model, 'mllm.llm')
    results = gradients(model, *batch)
    assert llm[0][0] == 6, 'a sequence for each conversation'
    model, *batch = step(options, [many, one, one, one], officially=True)
    assert_equal(results, gradients(model, *batch))


def test_conversations_that_share_all_or_nothing(step):
    """All of both conversations is shared, their [SEG] too."""
    videos = [(['a star', 'a star'], *VIDEOS[0][1:])]
    results = []
    for officially in (False, True):
        model, *batch = step({}, videos, officially)
        llm = record(model, 'mllm.llm')
        results.append(gradients(model, *batch))
        assert llm[0][0] == (2 if officially else 1)
    assert_equal(*results)
    # Such as flash attention, of which this one is an example that runs anywhere.
    AttentionInterface.register('test_without_mask', sdpa_attention_forward)
    results = []
    for name in ('sdpa', 'test_without_mask'):
        model, *batch = step({'mllm.llm.attn_implementation': name})
        llm = record(model, 'mllm.llm')
        results.append(gradients(model, *batch))
        assert llm[0][0] == (2 if name == 'sdpa' else 5)
    assert_equal(*results)


def test_frames_of_the_samples(step):
    model, inputs, samples = step()
    samples[1].set_metainfo(dict(query_frame_ids=[6, 7]))
    with pytest.raises(ValueError, match=r"image for each of the frames \[0, 2, 4, 6, 6, 7\] of "
                                         r"video 'video', got 8 images"):
        model(inputs, samples, mode='loss')
    # Each image is then a frame of its own.
    model, inputs, samples = step()
    vision = record(model, 'mllm.vision_tower')
    named = model(inputs, samples, mode='loss')
    for sample in samples:
        sample.set_metainfo(dict(context_frame_ids=None, query_frame_ids=None))
        del sample.context_frame_ids, sample.query_frame_ids
    plain = model(inputs, samples, mode='loss')
    assert [shape[0] for shape in vision] == [sum(DISTINCT[0]), 16]
    for name, value in named.items():
        torch.testing.assert_close(value, plain[name], rtol=1e-9, atol=0)


def test_distinct_frames(make_sample):
    imgs = [torch.zeros(3, 1), torch.zeros(2, 1)]
    samples = [make_sample(), make_sample()]
    assert distinct_frames(imgs, samples, ['query_frame_ids']) == (list(range(5)), list(range(5)))
    for sample, frames in zip(samples, ([7, 8, 7], [7, 7])):
        sample.set_metainfo(dict(query_frame_ids=frames))
    assert distinct_frames(imgs, samples, ['query_frame_ids']) == ([0, 1, 3], [0, 1, 0, 2, 2])


def test_layout_and_prefix():
    """Lengths 5 and 4 with a prefix of 3, and a conversation of 2 of its own."""
    layout = lay_out([5, 4, 2], [3, 3, 0], [0, 0, 1])
    assert layout.branch.tolist() == [[0, 0, 0, 1, 1, 2], [1, 1, -1, -1, -1, -1]]
    assert layout.positions.tolist() == [[0, 1, 2, 3, 4, 3], [0, 1, 0, 0, 0, 0]]
    assert layout.index(5).tolist() == [[0, 1, 2, 3, 4], [0, 1, 2, 5, 0], [6, 7, 6, 6, 6]]
    assert layout.size == 12
    mask = layout.mask()
    assert mask.shape == (2, 1, 6, 6)
    rows = [''.join('01'[value] for value in row) for row in mask[0, 0].tolist()]
    assert rows == ['100000', '110000', '111000', '111100', '111110', '111001']
    assert mask[1, 0, :2].tolist() == [[True] + [False] * 5, [True, True] + [False] * 4]
    assert mask.any(-1).all(), 'a row without any position would be NaN'
    rows = [torch.tensor(row) for row in ([1, 2, 3, 4], [1, 2, 5, 4, 6], [1, 2, 3])]
    assert common_prefix(rows) == 2 and common_prefix(rows[::2]) == 3
    assert common_prefix(rows[:1]) == 4
    assert common_prefix([torch.tensor([1]), torch.tensor([2])]) == 0
