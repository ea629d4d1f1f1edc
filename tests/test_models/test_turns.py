"""Several turns as one sequence equal the turns one by one; blocks of frames use them."""

import pytest
import torch
from official_order import seg_tokens_from_scratch

from glus_mm.models.inference import ArrayReader
from glus_mm.models.mllms.base_mllm import BaseMLLM
from glus_mm.utils.image import vision_tower_image

EXPRESSIONS = ('a star', 'the big blue square that moves to the left', 'all')


@pytest.fixture(scope='module')
def mllm(make_glus):
    return make_glus().mllm


@pytest.fixture(scope='module')
def visual(mllm):
    generator = torch.Generator().manual_seed(2)
    size = mllm.image_size
    images = torch.randn(8, 3, size, size, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        return mllm.encode_images(images)


@pytest.mark.parametrize('expressions', [EXPRESSIONS, EXPRESSIONS[:1]])
@pytest.mark.parametrize(('template', 'num_context', 'turns'), [
    ('llava_v1', 4, (1, 2, 3, 4)), ('llava_v1', 0, (1, 2)), ('compact', 2, (2, 3, 4)),
    ('llava_v1', 2, (3, ))])
@pytest.mark.parametrize('attention', ['sdpa', 'eager'])
@torch.no_grad()
def test_one_sequence_equals_one_by_one(make_glus, visual, expressions, template, num_context,
                                        turns, attention):
    mllm = make_glus({'mllm.template': template,
                      'mllm.llm.attn_implementation': attention}).mllm
    prompts = [[mllm.prompt(text, num_context, n) for n in turns] for text in expressions]
    # Eager attention computes its weights in float32.
    close = dict(rtol=0, atol=1e-10 if attention == 'sdpa' else 1e-6)
    cut = mllm.split_prefix(prompts[0][0], num_context)
    prefix = mllm.prefill(prompts[0][0][:cut], visual[:num_context])
    length = prefix.get_seq_length()
    rests = [[prompt[cut:] for prompt in some] for some in prompts]
    frames = visual[num_context:num_context + turns[-1]]
    once = mllm.seg_tokens_of_turns(rests, frames, prefix)
    assert prefix.get_seq_length() == length and prefix.layers[0].keys.shape[0] == 1
    each = BaseMLLM.seg_tokens_of_turns(mllm, rests, frames, prefix)
    assert once.tokens.shape == (len(expressions), len(turns), each.tokens.shape[2])
    joined = BaseMLLM.seg_tokens_of_turns(
        mllm, rests, [frames] * len(rests), [prefix] * len(rests))
    torch.testing.assert_close(joined.tokens, each.tokens, rtol=0, atol=0)
    torch.testing.assert_close(once.tokens, each.tokens, **close)
    assert torch.equal(once.is_seg, each.is_seg)
    for e, some in enumerate(prompts):
        for i, n in enumerate(turns):
            alone = mllm.next_seg_tokens([some[i]], visual[:num_context + n])
            torch.testing.assert_close(once.tokens[e, i], alone.tokens[0], **close)


@torch.no_grad()
def test_from_scratch_equals_reuse(mllm, make_glus):
    images = torch.randn(3, 3, mllm.image_size, mllm.image_size, dtype=torch.float64)
    prompts = [mllm.prompt(text, 2, 1) for text in EXPRESSIONS]
    scratch = seg_tokens_from_scratch(mllm, prompts, images)
    reused = mllm.next_seg_tokens(prompts, mllm.encode_images(images))
    torch.testing.assert_close(scratch.tokens, reused.tokens, rtol=0, atol=1e-10)
    assert torch.equal(scratch.is_seg, reused.is_seg)


@pytest.mark.parametrize('window_stride', [2, 3, 4])
def test_blocks_of_frames(make_glus, emit_seg, video, make_sample, window_stride):
    """A frame of a block sees window - stride frames and those of the block before it."""
    model = emit_seg(make_glus(), video)
    sample, window = make_sample(EXPRESSIONS), 4
    blocks = make_glus({'test_cfg.window_stride': window_stride})
    blocks.load_state_dict(model.state_dict())
    runs = []
    blocks.mllm.llm.register_forward_hook(lambda *_: runs.append(1))
    session = blocks.init_session(ArrayReader(video), sample)
    tokens = torch.stack([pred.seg_tokens for _, pred in blocks.propagate(session, [0, 1, 2])])
    assert len(runs) <= 1 + 2 * -(-len(video) // window_stride)
    for t in range(len(video)):
        start = t // window_stride * window_stride
        new = min(window_stride, len(video) - start)
        seen = min(start, window - new) + t - start
        context = model.init_session(ArrayReader(video), sample).context_frame_ids
        images = torch.stack([image(model, video[i]) for i in [*context, *range(t - seen, t + 1)]])
        prompts = [model.mllm.prompt(text, len(context), seen + 1) for text in EXPRESSIONS]
        with torch.no_grad():
            expected = seg_tokens_from_scratch(model.mllm, prompts, images).tokens
        torch.testing.assert_close(tokens[t], expected, rtol=0, atol=1e-8)


def image(model, frame):
    pixels = vision_tower_image(frame, model.mllm.image_size, model.mllm.vision_crop)
    pixels = torch.from_numpy(pixels.copy()).permute(2, 0, 1)
    return model.data_preprocessor.normalize_vision(pixels).double()
