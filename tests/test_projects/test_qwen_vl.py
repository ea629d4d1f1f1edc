"""GLUS on Qwen-VL: the same numbers as transformers' own forward pass, and GLUS's equivalences."""

import json
import sys

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForImageTextToText,
    Qwen2_5_VLConfig,
    Qwen2VLImageProcessor,
    Qwen3VLConfig,
)

import programs
from glus_mm.apis import init_model
from glus_mm.datasets.moving_shapes import write_split
from glus_mm.text.prompt import IMAGE_TOKEN_INDEX, get_template
from programs import ROOT

PROJECT = ROOT / 'projects' / 'qwen_vl'
sys.path.insert(0, str(PROJECT))

from qwen_vl import QwenTokenizer, QwenVLMLLM  # noqa: E402
from qwen_vl.mrope import mrope_positions  # noqa: E402
from qwen_vl.qwen_tokenizer import build_conversation, build_prompt, split_prefix  # noqa: E402

SIDE = 24
ROPE = dict(rope_type='default', mrope_section=[2, 3, 3], rope_theta=10000.0)
TEXT = dict(hidden_size=64, intermediate_size=96, num_hidden_layers=3, num_attention_heads=4,
            num_key_value_heads=2, initializer_range=0.2)
VISION = dict(depth=2, hidden_size=32, intermediate_size=48, num_heads=2, patch_size=4,
              initializer_range=0.2)
NETWORKS = dict(
    qwen2_5_vl=dict(
        model_type='qwen2_5_vl', text=dict(TEXT, rope_parameters=ROPE),
        vision=dict(VISION, window_size=16, fullatt_block_indexes=[1])),
    qwen3_vl=dict(
        model_type='qwen3_vl',
        text=dict(TEXT, head_dim=16, rope_parameters=dict(ROPE, mrope_interleaved=True)),
        vision=dict(VISION, num_position_embeddings=64, deepstack_visual_indexes=[0, 1])))
EXPRESSIONS = ('the red circle', 'the big blue square that moves to the left', 'all stars')


@pytest.fixture(scope='module', params=sorted(NETWORKS))
def mllm(request):
    torch.manual_seed(0)
    return QwenVLMLLM(NETWORKS[request.param], SIDE, seg_dim=16, tokenizer='qwen-tiny',
                      template='compact').double().eval()


@pytest.fixture(scope='module')
def frames():
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (5, SIDE, SIDE, 3), dtype=np.uint8)


def whole(mllm):
    """Transformers' own model with the same weights."""
    tokenizer = mllm.tokenizer
    ids = {f'{name}_token_id': tokenizer.encode(f'<|{text}|>')[0] for name, text in [
        ('image', 'image_pad'), ('video', 'video_pad'), ('vision_start', 'vision_start'),
        ('vision_end', 'vision_end')]}
    family = mllm.llm.config.model_type.removesuffix('_text')
    config = dict(qwen2_5_vl=Qwen2_5_VLConfig, qwen3_vl=Qwen3VLConfig)[family](
        text_config=mllm.llm.config.to_dict(), vision_config=mllm.vision_tower.config.to_dict(),
        **ids)
    model = AutoModelForImageTextToText.from_config(config).double().eval()
    model.model.visual.load_state_dict(mllm.vision_tower.state_dict())
    model.model.language_model.load_state_dict(mllm.llm.state_dict())
    model.lm_head.load_state_dict(mllm.lm_head.state_dict())
    return model


def pixels(mllm, frames, mean=(0.5, ) * 3, std=(0.5, ) * 3):
    imgs = torch.from_numpy(frames).permute(0, 3, 1, 2).double() / 255
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (mean, std))
    return (imgs - mean) / std


def test_patches_are_those_of_the_image_processor(mllm, frames):
    processor = Qwen2VLImageProcessor(
        patch_size=4, merge_size=2, temporal_patch_size=2, min_pixels=1, max_pixels=10**7,
        image_mean=[0.5] * 3, image_std=[0.5] * 3)
    expected = processor(images=list(frames), return_tensors='pt')
    assert expected['image_grid_thw'].tolist() == [[1, 6, 6]] * 5
    torch.testing.assert_close(
        mllm._patches(pixels(mllm, frames)).float(), expected['pixel_values'], rtol=0, atol=1e-6)


@torch.no_grad()
def test_hidden_states_and_logits_are_those_of_transformers(mllm, frames):
    ids, _ = build_conversation(mllm.tokenizer, mllm.template, EXPRESSIONS[1], 3, [0, 0], [0, 0])
    model, imgs = whole(mllm), pixels(mllm, frames)
    per_image = mllm.grid**2
    is_image = np.repeat(ids == IMAGE_TOKEN_INDEX, np.where(ids < 0, per_image, 1))
    full = np.repeat(ids, np.where(ids < 0, per_image, 1))
    full[is_image] = model.config.image_token_id
    out = model(
        input_ids=torch.from_numpy(full)[None], pixel_values=mllm._patches(imgs),
        image_grid_thw=torch.tensor([[1, 6, 6]] * 5),
        mm_token_type_ids=torch.from_numpy(is_image.astype(np.int32))[None],
        output_hidden_states=True)
    own = mllm._run([torch.from_numpy(ids)], [mllm.encode_images(imgs)])
    torch.testing.assert_close(mllm.lm_head(own), out.logits, rtol=0, atol=1e-9)
    assert out.logits.std() > 0.1


def test_positions_and_images(mllm):
    with pytest.raises(ValueError, match='QwenVLMLLM cannot keep turns, as the positions of'):
        mllm.use_turn_window()
    with pytest.raises(ValueError, match='expected vision-tower images'):
        mllm.encode_images(torch.zeros(1, 3, SIDE, SIDE + 8))
    is_image = torch.tensor([[False] * 2 + [True] * 4 + [False] + [True] * 4 + [False] * 2])
    assert mrope_positions(is_image, 2, start=10).tolist() == [
        [[10, 11, 12, 12, 12, 12, 14, 15, 15, 15, 15, 17, 18]],
        [[10, 11, 12, 12, 13, 13, 14, 15, 15, 16, 16, 17, 18]],
        [[10, 11, 12, 13, 12, 13, 14, 15, 16, 15, 16, 17, 18]]]


@torch.no_grad()
@pytest.mark.parametrize('num_context', [0, 3])
def test_a_shared_prefix_changes_nothing(mllm, frames, num_context):
    tokens = mllm.encode_images(pixels(mllm, frames))
    prompts = [mllm.prompt(text, num_context, 2) for text in EXPRESSIONS]
    cut = mllm.split_prefix(prompts[0], num_context)
    assert len({tuple(p[:cut]) for p in prompts}) == 1
    prefix = mllm.prefill(prompts[0][:cut], tokens[:num_context])
    for _ in range(2):  # the prefix is not changed by its use
        shared = mllm.next_seg_tokens([p[cut:] for p in prompts], tokens[3:], prefix)
    whole_tokens = torch.cat([tokens[:num_context], tokens[3:]])
    for e, prompt in enumerate(prompts):
        alone = mllm.next_seg_tokens([prompt], whole_tokens)
        torch.testing.assert_close(shared.tokens[e], alone.tokens[0], rtol=0, atol=1e-9)
        assert shared.is_seg[e] == alone.is_seg[0]


@torch.no_grad()
def test_training_with_shared_prefixes_equals_training_without(mllm, frames):
    tokens = mllm.encode_images(pixels(mllm, frames))
    rows = [build_conversation(mllm.tokenizer, mllm.template, text, 3, [0, 0], [0, 0])
            for text in EXPRESSIONS]
    ids, labels = ([torch.from_numpy(row[i]) for row in rows] for i in range(2))
    alone = mllm(ids, labels, [tokens] * 3, 'answer')
    shared = mllm(ids, labels, [tokens] * 3, 'answer', groups=[0, 0, 0])
    torch.testing.assert_close(shared[0].tokens, alone[0].tokens, rtol=0, atol=1e-9)
    torch.testing.assert_close(shared[1], alone[1], rtol=0, atol=1e-9)
    assert alone[0].tokens.shape == (3, 2, 16) and torch.equal(shared[2], alone[2])


def test_prompts_are_the_beginnings_of_training_conversations():
    tokenizer, template = QwenTokenizer('qwen-tiny'), get_template('compact')
    ids, labels = build_conversation(tokenizer, template, 'The red circle.', 2, [0, 0], [0, 0])
    prompt = build_prompt(tokenizer, template, 'The red circle.', 2, 2)
    assert prompt == ids[:len(prompt)].tolist() and ids[len(prompt)] == tokenizer.seg_id
    answers = [tokenizer.decode([i]) for i in labels if i >= 0]
    assert ''.join(answers) == 'the red circle is[SEG].<|im_end|>' * 2
    assert tokenizer.decode(ids[:split_prefix(ids, 2, tokenizer)].clip(0).tolist()).endswith(
        'These are context frames.\n')


@pytest.mark.parametrize('text', ['', 'a <|im_end|> b', 'the [seg]', '<|VISION_START|>'])
def test_expressions_bring_no_tokens_of_their_own(mllm, text):
    with pytest.raises(ValueError, match='expression'):
        mllm.prompt(text, 1, 1)


@pytest.mark.parametrize('change, message', [
    (dict(image_size=20), 'image_size must be a multiple of 8'),
    (dict(tokenizer=None), 'tokenizer is needed where network is a dict'),
    (dict(network=dict(model_type='llama')), r"one of \['qwen2_5_vl', 'qwen3_vl'\], got 'llama'"),
    (dict(network='no/such/folder'), 'folder'),
    (dict(tokenizer='no/such/folder'), 'folder'),
])
def test_errors_say_what_was_expected(change, message, monkeypatch):
    monkeypatch.setenv('HF_HUB_OFFLINE', '1')
    args = dict(network=NETWORKS['qwen3_vl'], image_size=SIDE, seg_dim=4, tokenizer='qwen-tiny')
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        QwenVLMLLM(**dict(args, **change))


def test_weights_load_by_name(mllm, frames, tmp_path):
    """From a folder as the hub has it; a name takes the same way."""
    whole(mllm).save_pretrained(tmp_path)
    QwenTokenizer('qwen-tiny')._tokenizer.save_pretrained(tmp_path)
    loaded = QwenVLMLLM(str(tmp_path), SIDE, seg_dim=16, template='compact').double().eval()
    with torch.no_grad():
        torch.testing.assert_close(loaded.encode_images(pixels(mllm, frames)).float(),
                                   mllm.encode_images(pixels(mllm, frames)).float())
    for part in ('llm', 'lm_head'):
        for (name, own), other in zip(getattr(loaded, part).named_parameters(),
                                      getattr(mllm, part).parameters(), strict=True):
            torch.testing.assert_close(own.float(), other.float(), msg=name)


def test_lora_and_frozen_parts():
    model = QwenVLMLLM(
        NETWORKS['qwen2_5_vl'], SIDE, seg_dim=4, tokenizer='qwen-tiny', lora=dict(r=2, alpha=4),
        trainable=['llm.*.lora_*', 'lm_head.*', 'seg_projector.*'], gradient_checkpointing=True)
    trained = {name.split('.')[0] for name, p in model.named_parameters() if p.requires_grad}
    assert trained == {'llm', 'lm_head', 'seg_projector'}
    assert all('lora_' in name for name, p in model.named_parameters()
               if p.requires_grad and name.startswith('llm'))


@pytest.mark.slow
@pytest.mark.parametrize('family', ['qwen2_5', 'qwen3'])
def test_trains_and_tests_on_moving_shapes(tmp_path, family):
    write_split(tmp_path / 'data', 2, 0, 'train', mp4=False)
    config = str(PROJECT / 'configs' / f'{family}-vl_tiny_moving-shapes.py')

    def run(tool, *args):
        done = programs.run(
            ROOT / 'tools' / tool, config, *args, '--cfg-options', 'train_cfg.max_iters=2',
            'train_dataloader.batch_size=1', 'train_dataloader.num_workers=0',
            'train_dataloader.persistent_workers=False',
            f'train_dataloader.dataset.data_root={tmp_path}/data/train',
            f'test_dataloader.dataset.data_root={tmp_path}/data/train',
            'test_dataloader.dataset.indices=1', f'work_dir={tmp_path}/run', cwd=PROJECT)
        assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]

    run('train.py')
    checkpoint = tmp_path / 'run' / 'iter_2.pth'
    run('test.py', str(checkpoint), '--dump', str(tmp_path / 'figures.json'))
    assert 'J&F' in json.dumps(json.loads((tmp_path / 'figures.json').read_text()))
    model = init_model(config, checkpoint)
    saved = torch.load(checkpoint, weights_only=True)['state_dict']
    for name, value in model.state_dict().items():
        assert torch.equal(value, saved[name]), name
