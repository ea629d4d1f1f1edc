"""The official rules where the recorded fixture does not reach, against a second implementation.

:func:`official_run` is written from the description of the official inference code: one expression,
one frame at a time, everything recomputed, with the stock modules only. The fixture has one
number of context and query frames, one memory stride, one size of the vision tower, and always
takes mask token 0.
"""

import dataclasses

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from glus_mm.models import MemoryBank
from glus_mm.models.inference import ArrayReader
from glus_mm.utils.image import sam2_image, vision_tower_image

OFFICIAL = {'mllm.template': 'llava_v1', 'mllm.pooling': 'raster4', 'mllm.vision_crop': 'center',
            'mllm.vision_select_layer': -2, 'mask_head.dynamic_multimask': True}
SYSTEM = ("A chat between a curious human and an artificial intelligence assistant. The assistant "
          "gives helpful, detailed, and polite answers to the human's questions. ")
CLOSE = dict(rtol=0, atol=1e-4)
EXPRESSIONS = ('the red circle', 'The big blue square that moves to the left.', 'all stars')


# The official rules


def official_context(num_frames, num_context):
    """Centres of equal clips; -1, the last frame, where the first clip is empty."""
    edges = np.linspace(0, num_frames, num_context + 1, dtype=int)
    offset = -(-num_frames // num_context) // 2 if num_context else 0
    return [min(edges[j] + offset, edges[j + 1] - 1) % num_frames for j in range(num_context)]


def official_memories(frame, stride):
    """Frames that are looked at, in the order of concatenation."""
    frames = [frame - 1 if t == 1 else (frame - 2) // stride * stride - (t - 2) * stride
              for t in range(7, 0, -1)]
    return [f for f in frames if f >= 0]


def official_conversation(expression, num_context, num_turns):
    """The text of the turns in the window, the answer to the last one open."""
    turns = []
    for turn in range(num_turns):
        block = '<image>' * num_context + '\nPlease finished the following tasks on the context ' \
            'frames above.\n' if turn == 0 and num_context else ''
        answer = '[SEG].</s>' if turn < num_turns - 1 else ''
        turns.append(f'USER: {block}<image>\nCan you segment the {expression} in this frame? '
                     f'ASSISTANT: Sure, the segmentation result is {answer}')
    return SYSTEM + ''.join(turns)


def official_mask(masks, ious):
    """Logits (h, w) of one of the four mask tokens, by its stability at 0.05."""
    inner, outer = (masks[0] > 0.05).sum(), (masks[0] > -0.05).sum()
    if outer == 0 or inner / outer >= 0.98:
        return masks[0], 0
    best = 1 + int(ious[1:].argmax())
    return masks[best], best


@torch.no_grad()
def next_token(model, text, images):
    """Whether [SEG] comes after a conversation, and the seg token."""
    mllm = model.mllm
    pieces = text.replace('<image>', '<im_start><image><im_end>').split('<image>')
    pieces = [mllm.tokenizer.encode(piece) for piece in pieces]
    pieces[0] = [1, *pieces[0]]
    assert len(pieces) == len(images) + 1
    rows = []
    for piece, image in zip(pieces, [*images, None]):
        rows.append(mllm.llm.embed_tokens(torch.tensor(piece)))
        if image is not None:
            rows.append(visual_tokens(model, image))
    hidden = mllm.llm(inputs_embeds=torch.cat(rows)[None]).last_hidden_state[0, -1]
    is_seg = int(mllm.lm_head(hidden).argmax()) == mllm.tokenizer.seg_id
    return is_seg, mllm.seg_projector(hidden)


def visual_tokens(model, image):
    """Four tokens that follow one another in raster order are averaged, then projected."""
    mllm = model.mllm
    pixels = torch.from_numpy(vision_tower_image(image, mllm.image_size).copy()).permute(2, 0, 1)
    pixels = model.data_preprocessor.normalize_vision(pixels)[None]
    states = mllm.vision_tower(pixels, output_hidden_states=True).hidden_states[-2][0, 1:]
    pooled = [states[i:i + 4].mean(0) for i in range(0, len(states), 4)]
    return mllm.projector(torch.stack(pooled))


@torch.no_grad()
def decode(model, image, seg_token, memories):
    """Logits (h, w), the mask token that was taken, and the memory of the frame."""
    sam, side = model.mask_head.sam2, model.mask_head.image_size
    out = sam.image_encoder(model.data_preprocessor.normalize_sam(sam2_image(image, side))[None])
    decoder, top = sam.sam_mask_decoder, out['backbone_fpn'][2]
    high_res = [decoder.conv_s0(out['backbone_fpn'][0]), decoder.conv_s1(out['backbone_fpn'][1])]
    if memories:
        fused = sam.memory_attention(
            curr=[top.flatten(2).permute(2, 0, 1)],
            curr_pos=[out['vision_pos_enc'][2].flatten(2).permute(2, 0, 1)],
            memory=torch.cat([features for features, _ in memories]),
            memory_pos=torch.cat([position for _, position in memories]),
            num_obj_ptr_tokens=0).permute(1, 2, 0).reshape(top.shape)
    else:
        fused = top + sam.no_mem_embed.reshape(1, -1, 1, 1)
    prompt = sam.sam_prompt_encoder
    masks, ious, *_ = decoder.predict_masks(
        fused, prompt.get_dense_pe(), seg_token[None, None],
        prompt.no_mask_embed.weight.reshape(1, -1, 1, 1).expand(top.shape), False, high_res)
    logits, choice = official_mask(masks[0], ious[0])
    mask = F.interpolate(logits[None, None], (side, side), mode='bilinear')
    memory = sam.memory_encoder(fused, mask.sigmoid() * 20 - 10, skip_mask_sigmoid=True)
    rows = [value.flatten(2).permute(2, 0, 1)
            for value in (memory['vision_features'], memory['vision_pos_enc'][0])]
    return logits, choice, rows


def official_run(model, frames, expression, num_context, window, stride):
    """Logits of every frame, None without [SEG], and the mask tokens that were taken."""
    expression = expression.removesuffix('.').lower()
    context = [frames[i] for i in official_context(len(frames), num_context)]
    stored, logits, choices = {}, [], []
    for t, frame in enumerate(frames):
        start = max(0, t + 1 - window)
        text = official_conversation(expression, num_context, t + 1 - start)
        is_seg, seg_token = next_token(model, text, context + list(frames[start:t + 1]))
        if not is_seg:
            logits.append(None)
            continue
        memories = [stored[i] for i in official_memories(t, stride) if i in stored]
        low_res, choice, stored[t] = decode(model, frame, seg_token, memories)
        logits.append(low_res)
        choices.append(choice)
    return logits, choices


# Ours


@pytest.fixture(scope='module')
def make_official(make_glus, emit_seg, video):
    """``make_official(options, always)``: a small GLUS that follows the official rules.

    Its masks are stable at some frames only, and each mask token is the best one somewhere.
    """

    def make(options=None, always=True, dtype=torch.float32):
        model = make_glus({**OFFICIAL, **(options or {})}, torch.float32)
        decoder = model.mask_head.sam2.sam_mask_decoder
        with torch.no_grad():
            for mlp in decoder.output_hypernetworks_mlps:
                for parameter in mlp.layers[-1].parameters():
                    parameter *= 40
            for layer in decoder.iou_prediction_head.layers:
                layer.weight *= 3
            decoder.iou_prediction_head.layers[-1].bias.zero_()
            for parameter in model.mllm.seg_projector.parameters():
                parameter *= 5
        return emit_seg(model, video, EXPRESSIONS, always).to(dtype)

    return make


def segment(model, frames, sample):
    """Logits [e][t], None without [SEG]."""
    session = model.init_session(ArrayReader(frames), sample)
    logits = [[None] * len(frames) for _ in sample.expressions]
    for t, exps, pred in model.segment(session):
        for row, e in enumerate(exps):
            if pred.is_seg[row]:
                logits[e][t] = pred.low_res_logits[row]
    return logits


def compare(model, frames, sample, num_context, window, stride):
    """Compare all expressions, batched, with the second implementation; returns the choices."""
    ours, chosen = segment(model, frames, sample), []
    for rows, expression in zip(ours, sample.expressions, strict=True):
        expected, choices = official_run(model, frames, expression, num_context, window, stride)
        assert [row is None for row in rows] == [row is None for row in expected]
        for row, logits in zip(rows, expected):
            if row is not None:
                torch.testing.assert_close(row, logits, **CLOSE)
        chosen += choices
    return chosen


@pytest.mark.parametrize(('num_context', 'window'), [(4, 4), (0, 4), (4, 1), (6, 2), (1, 8)])
@pytest.mark.parametrize('always', [True, False])
def test_numbers_of_frames(make_official, video, make_sample, num_context, window, always):
    settings = {'test_cfg.num_context': num_context, 'test_cfg.window': window,
                'test_cfg.memory_stride': 2}
    model = make_official(settings, always)
    choices = compare(model, video, make_sample(EXPRESSIONS), num_context, window, 2)
    if always:
        assert 0 in choices and max(choices) > 0, 'mask tokens were chosen both ways'


@pytest.mark.parametrize('num_frames', [1, 2, 3, 5])
@pytest.mark.parametrize('num_context', [4, 6])
def test_videos_shorter_than_the_context(make_official, video, make_sample, num_frames,
                                         num_context):
    model = make_official({'test_cfg.num_context': num_context})
    compare(model, video[:num_frames], make_sample(EXPRESSIONS[:2]), num_context, 4, 3)


@pytest.mark.parametrize('stride', range(1, 10))
def test_memory_strides(make_official, long_video, make_sample, stride):
    model = make_official({'test_cfg.memory_stride': stride})
    compare(model, long_video, make_sample(EXPRESSIONS[:1]), 4, 4, stride)


def test_other_towers_and_llamas(make_official, video, make_sample):
    model, logits = make_official(), {}
    for stride in (1, 3):
        model.test_cfg = dataclasses.replace(model.test_cfg, memory_stride=stride)
        logits[stride] = torch.stack(segment(model, video, make_sample(EXPRESSIONS[:1]))[0])
    assert (logits[1] - logits[3]).abs().max() > 0.01
    model = make_official({'mllm.llm.num_key_value_heads': 1, 'mllm.llm.vocab_size': 1100})
    head = model.mllm.lm_head.weight
    assert len(head) == 1100 > len(model.mllm.tokenizer)
    sample = make_sample(EXPRESSIONS)
    compare(model, video, sample, 4, 4, 3)
    with torch.no_grad():  # a row without text wins everywhere
        head[-1] = 2 * head[model.mllm.tokenizer.seg_id]
    assert segment(model, video, sample) == [[None] * len(video)] * len(EXPRESSIONS)
    # 576 patches, 144 tokens of a frame, so that all positions in the prompt shift.
    model = make_official({
        'mllm.vision_tower.image_size': 336, 'mllm.vision_tower.patch_size': 14,
        'mllm.llm.max_position_embeddings': 4096})
    assert model.mllm.encode_images(torch.zeros(2, 3, 336, 336)).shape == (2, 144, 32)
    compare(model, video, make_sample(EXPRESSIONS), 4, 4, 3)


# The choice of a mask token


def decoded(model, seg_tokens, seed=0):
    """What the head returns for tokens (N, C) on one image, and all four masks and IoUs."""
    sam, seen = model.mask_head.sam2, []
    original = sam.sam_mask_decoder.predict_masks
    sam.sam_mask_decoder.predict_masks = lambda *a, **k: seen.append(original(*a, **k)) or seen[-1]
    side, generator = model.mask_head.image_size, torch.Generator().manual_seed(seed)
    feats = model.mask_head.extract_feat(torch.randn(1, 3, side, side, generator=generator))
    index = torch.zeros(len(seg_tokens), dtype=torch.long)
    with torch.no_grad():
        out = model.mask_head(
            feats.select(index), seg_tokens, [MemoryBank() for _ in seg_tokens], 0)
    del sam.sam_mask_decoder.predict_masks
    masks, ious, *_ = seen[0]
    return out, masks, ious


@pytest.fixture(scope='module')
def many_tokens():
    return 5 * torch.randn(24, 32, generator=torch.Generator().manual_seed(1))


def test_each_track_chooses_its_mask_token(make_official, many_tokens):
    model = make_official()
    out, masks, ious = decoded(model, many_tokens)
    expected = [official_mask(*track) for track in zip(masks, ious)]
    choices = [choice for _, choice in expected]
    assert set(choices) == {0, 1, 2, 3}, 'every choice occurs in the batch'
    assert torch.equal(out.low_res_logits, torch.stack([logits for logits, _ in expected]))
    assert torch.equal(out.scores, ious[torch.arange(len(choices)), choices])


@pytest.mark.parametrize(('training', 'dynamic'), [(True, True), (False, False)])
def test_always_mask_token_0(make_official, many_tokens, training, dynamic):
    """In training, and where the choice is switched off."""
    model = make_official({'mask_head.dynamic_multimask': dynamic}).train(training)
    out, masks, ious = decoded(model, many_tokens)
    assert torch.equal(out.low_res_logits, masks[:, 0])
    assert torch.equal(out.scores, ious[:, 0])


def test_an_empty_mask_is_stable(make_official, many_tokens):
    model = make_official()
    with torch.no_grad():
        # A negative constant channel: mask token 0 finds nothing anywhere.
        model.mask_head.sam2.sam_mask_decoder.output_upscaling[3].bias.fill_(1e3)
        for mlp in model.mask_head.sam2.sam_mask_decoder.output_hypernetworks_mlps:
            mlp.layers[-1].weight.zero_()
            mlp.layers[-1].bias.fill_(-1.0)
    out, masks, _ = decoded(model, many_tokens[:2])
    assert masks.max() < -0.05
    assert torch.equal(out.low_res_logits, masks[:, 0])
