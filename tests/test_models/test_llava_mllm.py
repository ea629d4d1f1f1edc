"""LlavaMLLM: padding, prefix reuse, windows, pooling, LoRA, labels, and wrong configs."""

import copy

import pytest
import torch

from glus_mm.models.mllms import causal_mllm
from glus_mm.registry import MODELS, build_child
from glus_mm.text.prompt import build_conversation, build_prompt

NUM_CONTEXT = 2
TEXTS = ('the star', 'the big blue square that moves to the left', 'all red shapes')


@pytest.fixture(scope='module')
def mllm(make_glus):
    """In float64, with a vision tower that gives 4 tokens per frame."""
    return make_glus().mllm


@pytest.fixture(scope='module')
def build(tiny_cfg):
    """``build(options)``: an LlavaMLLM with options below ``model.mllm``."""

    def make(options):
        cfg = tiny_cfg({f'mllm.{key}': value for key, value in options.items()})
        torch.manual_seed(0)
        return build_child(MODELS, cfg['mllm'], seg_dim=8)

    return make


@pytest.fixture(scope='module')
def visual(mllm):
    """Visual tokens of 6 random frames (6, V, D)."""
    imgs = torch.randn(6, 3, 16, 16, generator=torch.Generator().manual_seed(0)).double()
    with torch.no_grad():
        return mllm.encode_images(imgs)


def conversation(mllm, text, num_turns, num_context=NUM_CONTEXT):
    ids, labels = build_conversation(
        mllm.tokenizer, mllm.template, text, num_context, [0] * num_turns, [0] * num_turns)
    return torch.from_numpy(ids), torch.from_numpy(labels)


def close(a, b):
    torch.testing.assert_close(a, b, rtol=0, atol=1e-10)


def test_padding_changes_nothing(mllm, visual):
    assert visual.shape == (6, 4, 32)
    ids, labels = zip(*(conversation(mllm, text, 3) for text in TEXTS))
    seg, logits, targets = mllm(ids, labels, [visual[:5]] * 3, 'seg')
    assert seg.tokens.shape == (3, 3, 32) and seg.is_seg is None
    assert logits.shape == (9, len(mllm.tokenizer)) and targets.shape == (9, )
    ids, labels = zip(*(conversation(mllm, text, 3) for text in TEXTS))
    assert len({len(i) for i in ids}) == 3
    frames = [visual[:5], visual[1:], visual[:5].flip(0)]
    seg, logits, targets = mllm(ids, labels, frames, 'answer')
    alone = [mllm(ids[i:i + 1], labels[i:i + 1], frames[i:i + 1], 'answer') for i in range(3)]
    close(seg.tokens, torch.cat([a[0].tokens for a in alone]))
    close(logits, torch.cat([a[1] for a in alone]))
    assert torch.equal(targets, torch.cat([a[2] for a in alone]))


@pytest.mark.parametrize('template', ['compact', 'llava_v1'])
@pytest.mark.parametrize('num_context', [0, 2])
@pytest.mark.parametrize('num_turns', [1, 3])
def test_prefix_reuse_equals_the_whole_prompt(make_glus, visual, template, num_context, num_turns):
    mllm = make_glus({'mllm.template': template}).mllm
    prompts = [mllm.prompt(text, num_context, num_turns) for text in TEXTS]
    frames = visual[:num_context + num_turns]
    with torch.no_grad():
        whole = mllm.next_seg_tokens(prompts, frames)
        cut = mllm.split_prefix(prompts[0], num_context)
        assert all(prompt[:cut] == prompts[0][:cut] for prompt in prompts)
        prefix = mllm.prefill(prompts[0][:cut], frames[:num_context])
        for _ in range(2):  # the prefix serves again: it was not changed
            reused = mllm.next_seg_tokens(
                [prompt[cut:] for prompt in prompts], frames[num_context:], prefix)
            close(reused.tokens, whole.tokens)
            assert torch.equal(reused.is_seg, whole.is_seg)
        for i, prompt in enumerate(prompts):  # shorter prompts are padded in the batch only
            alone = mllm.next_seg_tokens([prompt[cut:]], frames[num_context:], prefix)
            close(alone.tokens[0], whole.tokens[i])


def test_prompts_are_those_that_are_built(mllm):
    """They are remembered, in a bounded number; who changes one changes nobody else's."""
    for _ in range(2):
        for text in TEXTS:
            for turns, answers in ((1, None), (3, None), (3, [True, False]), (3, [False, True])):
                prompt = mllm.prompt(text, NUM_CONTEXT, turns, answers)
                assert prompt == build_prompt(
                    mllm.tokenizer, mllm.template, text, NUM_CONTEXT, turns, answers)
                prompt.clear()
        with pytest.raises(ValueError, match='expression'):
            mllm.prompt('', NUM_CONTEXT, 1)
    assert causal_mllm._recent_prompt.cache_info().maxsize == 1024


def test_is_seg_is_the_most_likely_next_token(mllm, visual):
    mllm = copy.deepcopy(mllm)
    prompts = [mllm.prompt(text, NUM_CONTEXT, 1) for text in TEXTS]
    states = []
    handle = mllm.lm_head.register_forward_pre_hook(lambda _, args: states.append(args[0]))
    with torch.no_grad():
        mllm.next_seg_tokens(prompts, visual[:3])
        handle.remove()
        mllm.lm_head.weight[mllm.tokenizer.seg_id] = 1e6 * states[0][1]
        others = 1e6 * (states[0] @ states[0][1]) > mllm.lm_head(states[0])[:, 0]
        seg = mllm.next_seg_tokens(prompts, visual[:3])
        close(seg.tokens, mllm.seg_projector(states[0]))
        assert seg.is_seg[1] and torch.equal(seg.is_seg, others)
        mllm.lm_head.weight[mllm.tokenizer.seg_id] *= -1
        assert not mllm.next_seg_tokens(prompts, visual[:3]).is_seg[1]


def plain_pool(grid, mode):
    """Mean over groups of a (side, side) grid of patches, by loops."""
    side = len(grid)
    if mode == 'none':
        return [grid[y][x] for y in range(side) for x in range(side)]
    if mode == 'raster4':
        flat = plain_pool(grid, 'none')
        return [sum(flat[i:i + 4]) / 4 for i in range(0, side * side, 4)]
    return [(grid[y][x] + grid[y][x + 1] + grid[y + 1][x] + grid[y + 1][x + 1]) / 4
            for y in range(0, side, 2) for x in range(0, side, 2)]


@pytest.mark.parametrize('mode', ['none', 'raster4', '2x2'])
def test_pooling(build, mode):
    """In particular raster4 is AvgPool1d(4) over the row-major sequence, as the official code."""
    mllm = build({'pooling': mode})
    grid = torch.randn(8, 8, 5, generator=torch.Generator().manual_seed(0))
    expected = torch.stack(plain_pool([list(row) for row in grid], mode))
    out = mllm._pool(grid.flatten(0, 1)[None])
    torch.testing.assert_close(out[0], expected)
    if mode == 'raster4':
        assert torch.equal(out, torch.nn.AvgPool1d(4, 4)(grid.flatten(0, 1).T[None]).mT)


def test_the_vision_tower(build):
    imgs = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    for layer in (-1, -2, -3, 0, 2):
        mllm = build({'pooling': 'none', 'vision_select_layer': layer}).eval()
        states = mllm.vision_tower(imgs, output_hidden_states=True).hidden_states
        assert len(states) == 3
        torch.testing.assert_close(mllm.encode_images(imgs), mllm.projector(states[layer][:, 1:]))
    imgs = torch.randn(1, 3, 16, 16)
    mllm = build({'trainable': ['projector.*', 'seg_projector.*']})
    tokens = mllm.encode_images(imgs)
    tokens.sum().backward()
    assert mllm.projector.weight.grad is not None
    assert all(p.grad is None for p in mllm.vision_tower.parameters())
    mllm = build({})
    mllm.encode_images(imgs).sum().backward()
    assert any(p.grad is not None for p in mllm.vision_tower.parameters())


def test_adapters_and_checkpointing(make_glus, visual):
    """The Runner calls ``init_weights`` before it loads what the training starts from."""
    model = make_glus({'mllm.lora': dict(r=2)})
    model.init_weights()
    adapters = [value for name, value in model.state_dict().items() if '.lora_B.' in name]
    assert adapters and not any(value.any() for value in adapters)
    grads = []
    for checkpointing in (False, True):
        mllm = make_glus({'mllm.gradient_checkpointing': checkpointing}).mllm.train()
        ids, labels = conversation(mllm, TEXTS[0], 2)
        mllm([ids], [labels], [visual[:4]], 'seg')[0].tokens.square().sum().backward()
        grads.append(mllm.llm.layers[0].self_attn.q_proj.weight.grad)
    close(*grads)


def test_lora_trains_q_and_v_only_and_starts_as_the_plain_model(build, make_glus, visual):
    plain, lora = make_glus().mllm, make_glus({'mllm.lora': dict(r=2, dropout=0.0)}).mllm
    names = [name for name, p in lora.llm.named_parameters() if p.requires_grad]
    # 2 layers, q and v, A and B
    assert len(names) == 8
    assert {name.split('.')[3] for name in names} == {'q_proj', 'v_proj'}
    assert all('lora_' in name for name in names)
    assert all(p.requires_grad for p in lora.lm_head.parameters())
    for module in ('vision_tower', 'projector', 'lm_head', 'seg_projector'):
        getattr(lora, module).load_state_dict(getattr(plain, module).state_dict())
    weights = plain.llm.state_dict()
    plain_name = {name: name.replace('.base_layer', '') for name in lora.llm.state_dict()
                  if 'lora_' not in name}
    assert set(plain_name.values()) == set(weights)
    lora.llm.load_state_dict({a: weights[b] for a, b in plain_name.items()}, strict=False)
    ids, labels = conversation(plain, TEXTS[0], 2)
    out = [m([ids], [labels], [visual[:4]], 'seg')[0].tokens for m in (plain, lora)]
    close(*out)
    out[1].sum().backward()
    grads = {name: p.grad for name, p in lora.llm.named_parameters()}
    assert all((grad is not None) == ('lora_' in name) for name, grad in grads.items())
    assert any(grad.any() for name, grad in grads.items() if 'lora_B' in name)


def test_what_is_trained(build):
    for lora in (None, dict(r=2)):
        assert not any(p.requires_grad for p in build(dict(trainable=[], lora=lora)).parameters())
    mllm = build({'lora': dict(), 'trainable': ['llm.*lora_*', 'lm_head.*']})
    trained = {n.split('.')[0] for n, p in mllm.named_parameters() if p.requires_grad}
    assert trained == {'llm', 'lm_head'}


@pytest.mark.parametrize('ce_target', ['seg', 'answer'])
def test_which_labels_count(mllm, visual, ce_target):
    """And every logit stands one position before its target."""
    ids, labels = conversation(mllm, TEXTS[1], 3)
    with torch.no_grad():
        seg, logits, targets = mllm([ids], [labels], [visual[:5]], ce_target)
    seg_id = mllm.tokenizer.seg_id
    if ce_target == 'seg':
        assert targets.tolist() == [seg_id] * 3
        expected = [i for i, token in enumerate(ids.tolist()) if token == seg_id]
    else:
        assert targets.tolist() == labels[labels != -100].tolist()
        assert targets.tolist().count(seg_id) == 3
        assert targets.tolist().count(mllm.tokenizer.eos_id) == 3
        expected = (labels != -100).nonzero()[:, 0].tolist()
    with torch.no_grad():
        hidden = mllm._run([ids], [visual[:5]])[0]
    images = (ids == -200).long().cumsum(0)
    before = torch.tensor([i + 3 * int(images[i]) - 1 for i in expected])
    close(logits, mllm.lm_head(hidden[before]))


def test_inputs_that_do_not_fit(mllm, visual):
    ids, labels = zip(conversation(mllm, 'a', 2), conversation(mllm, 'b', 3))
    with pytest.raises(ValueError, match=r'equally many \[SEG\], got \[2, 3\]'):
        mllm(ids, labels, [visual[:4], visual[:5]])
    ids, labels = conversation(mllm, 'a', 2)
    with pytest.raises(ValueError, match='expected 5 image places in the conversations, got 4'):
        mllm([ids], [labels], [visual[:5]])
    with pytest.raises(ValueError, match='expected 2 image places in the conversations, got 3'):
        mllm.next_seg_tokens([mllm.prompt('a', 2, 1)], visual[:2])
    with pytest.raises(ValueError, match=r'\(M, 3, 16, 16\) as model.mllm.vision_tower.image_size'):
        mllm.encode_images(torch.zeros(1, 3, 32, 32))


def test_rows_beyond_the_tokenizer_have_no_text_and_are_never_seg(build, make_glus, visual):
    """As in checkpoints whose embeddings were padded to a round number."""
    plain = make_glus().mllm
    size = len(plain.tokenizer)
    padded = make_glus({'mllm.llm.vocab_size': size + 37}).mllm
    assert padded.lm_head.weight.shape[0] == padded.llm.embed_tokens.weight.shape[0] == size + 37
    state = plain.state_dict()
    with torch.no_grad():
        for name, value in padded.state_dict().items():
            value[:len(state[name])] = state[name]
        padded.lm_head.weight[size:] = 0
        prompts = [padded.prompt(text, 2, 1) for text in TEXTS]
        ours, theirs = (m.next_seg_tokens(prompts, visual[:3]) for m in (padded, plain))
        close(ours.tokens, theirs.tokens)
        ids, labels = conversation(padded, TEXTS[0], 2)
        assert padded([ids], [labels], [visual[:4]])[1].shape[-1] == size + 37
        states = []
        padded.lm_head.register_forward_pre_hook(lambda _, args: states.append(args[0]))
        padded.next_seg_tokens(prompts, visual[:3])
        row = 1e3 * states[0].mean(0)
        padded.lm_head.weight.zero_()
        padded.lm_head.weight[padded.tokenizer.seg_id] = row
        assert padded.next_seg_tokens(prompts, visual[:3]).is_seg.all()
        padded.lm_head.weight[size + 3] = 2 * row
        assert not padded.next_seg_tokens(prompts, visual[:3]).is_seg.any()


@pytest.mark.parametrize('options', [
    dict(num_attention_heads=4, num_key_value_heads=2),
    dict(num_key_value_heads=1, attention_bias=True, mlp_bias=True, head_dim=8),
    dict(rope_parameters=dict(rope_type='linear', factor=4.0, rope_theta=1e4), rms_norm_eps=1e-6),
])
def test_other_llamas(make_glus, mllm, visual, options):
    """Grouped queries, biases, rotary scaling: all that LlamaConfig names comes through."""
    other = make_glus({f'mllm.llm.{key}': value for key, value in options.items()}).mllm
    config = other.llm.config
    assert all(getattr(config, key) == value for key, value in options.items())
    attention = other.llm.layers[0].self_attn
    assert attention.k_proj.weight.shape[0] == config.num_key_value_heads * config.head_dim
    assert (attention.q_proj.bias is not None) == config.attention_bias
    prompts = [other.prompt(text, NUM_CONTEXT, 2) for text in TEXTS]
    with torch.no_grad():
        whole = other.next_seg_tokens(prompts, visual[:4])
        cut = other.split_prefix(prompts[0], NUM_CONTEXT)
        prefix = other.prefill(prompts[0][:cut], visual[:NUM_CONTEXT])
        reused = other.next_seg_tokens([p[cut:] for p in prompts], visual[NUM_CONTEXT:4], prefix)
        close(reused.tokens, whole.tokens)
        for i, prompt in enumerate(prompts):
            close(other.next_seg_tokens([prompt], visual[:4]).tokens[0], whole.tokens[i])
        assert (whole.tokens - mllm.next_seg_tokens(prompts, visual[:4]).tokens).abs().max() > 1e-3


@pytest.mark.parametrize(('options', 'error', 'message'), [
    ({'llm.hiden_size': 3}, TypeError, r"model\.mllm\.llm got unexpected keys \['hiden_size'\]"),
    ({'llm.hidden_size': 34}, ValueError, r'^model\.mllm\.llm: .*head_dim[^\n]*$'),
    ({'llm.hidden_size': 'x'}, ValueError, r'^model\.mllm\.llm: .*hidden_size[^\n]*$'),
    ({'llm.vocab_size': 5}, ValueError, r'model\.mllm\.llm\.vocab_size follows the tokenizer.* 5'),
    ({'llm.vocab_size': 600.0}, ValueError, r'vocab_size follows the tokenizer.* got 600\.0'),
    ({'llm.eos_token_id': 7}, ValueError, r'llm\.eos_token_id follows the tokenizer.* got 7'),
    ({'vision_select_layer': -4}, ValueError, r'vision_select_layer must be in -3\.\.2, .* got -4'),
    ({'vision_select_layer': 3}, ValueError, r'vision_select_layer must be in -3\.\.2, .* got 3'),
    ({'vision_tower.path_size': 3}, TypeError,
     r"model\.mllm\.vision_tower got unexpected keys \['path_size'\]"),
    ({'lora': dict(rank=4)}, TypeError, 'rank'),
    ({'trainable': ['llm.layer.*']}, ValueError, r"'llm\.layer\.\*' matches no parameter"),
    ({'pooling': '4x4'}, ValueError, r"model\.mllm\.pooling must be one of .*'4x4'"),
    ({'pooling': 'raster4', 'vision_tower.image_size': 20}, ValueError,
     "pooling='raster4' does not divide the patches .* image_size 20, patch_size 4"),
    ({'vision_tower.image_size': 18}, ValueError, 'image_size 18, patch_size 4'),
    ({'vision_crop': 'left'}, ValueError, r"model\.mllm\.vision_crop must be one of .*'left'"),
    ({'template': 'vicuna'}, ValueError, "'vicuna'"),
    ({'tokenizer': 'no_such_folder'}, (ValueError, FileNotFoundError), 'no_such_folder'),
    ({'towr': dict()}, TypeError, 'towr'),
])
def test_wrong_configs(build, options, error, message):
    with pytest.raises(error, match=message):
        build(options)
