"""LLaMA-VID: its tokens, answers, names of weights, and what is said where files are missing.

The model is tiny and made of the classes of transformers that the published sizes take, too.
"""

import shutil
import sys

import numpy as np
import pytest
import torch
from mmengine import Config
from torch.nn import functional as F
from video_qa import AnswerCfg

import programs
from glus_mm.apis import init_model
from glus_mm.conversion.plain_weights import empty_model
from glus_mm.models.inference import ArrayReader
from glus_mm.registry import MODELS, build_child
from glus_mm.structures import RefVOSDataSample
from programs import ROOT

PROJECT = ROOT / 'projects' / 'llama_vid'
VISION = dict(hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
              image_size=28, patch_size=14, hidden_act='gelu', layer_norm_eps=1e-6, qkv_bias=True)
QFORMER = dict(hidden_size=8, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2,
               cross_attention_frequency=2, vocab_size=40, max_position_embeddings=300)
LLM = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
           vocab_size=500, max_position_embeddings=512, initializer_range=0.5)
WORDS = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]', 'where', 'is', 'the', 'star', 'dog', '?']


@pytest.fixture(scope='module')
def project():
    """The package of the project, importable."""
    sys.path.insert(0, str(PROJECT))
    import llama_vid
    yield llama_vid
    sys.path.remove(str(PROJECT))


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Both tokenizers."""
    folder = tmp_path_factory.mktemp('llama_vid')
    shutil.copyfile(ROOT / 'tests' / 'data' / 'official_prompt' / 'tokenizer.model',
                    folder / 'tokenizer.model')
    (folder / 'vocab.txt').write_text('\n'.join(WORDS))
    return folder


@pytest.fixture(scope='module')
def options(folder):
    return dict(type='LlamaVidVideoQA', vision=VISION, qformer=QFORMER, llm=LLM, num_query=4,
                tokenizer=str(folder), text_tokenizer=str(folder))


@pytest.fixture(scope='module')
def model(project, options):
    """In float64."""
    torch.manual_seed(0)
    model = build_child(MODELS, options).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return model


@pytest.fixture(scope='module')
def imgs():
    return torch.randn(5, 3, 28, 28, generator=torch.Generator().manual_seed(0)).double()


@torch.no_grad()
def test_two_tokens_for_each_frame(model, imgs):
    features = model.encode_frames(imgs)
    assert features.shape == (5, 5, 16)
    tokens = model.video_tokens(features, 'where is the star?').unflatten(0, (5, 2))
    text = torch.tensor([[2, 5, 6, 7, 8, 10, 3]])
    for frame, (context, content) in zip(features, tokens):
        queries = model.qformer(
            text, query_embeds=model.query_tokens,
            encoder_hidden_states=F.layer_norm(
                frame, (16, ), model.qformer_norm.weight, model.qformer_norm.bias)[None]
        ).last_hidden_state[0, :4]
        found = [
            (model.context_key(frame[1:]) @ model.context_query(query) / 4).softmax(0) @ frame[1:]
            for query in queries]
        expected = model.context_value(torch.stack(found).mean(0))
        torch.testing.assert_close(context, expected, rtol=0, atol=1e-10)
        torch.testing.assert_close(
            content, model.projector(frame[1:].mean(0)), rtol=0, atol=1e-10)
    features = model.encode_frames(imgs)
    star, dog = (model.video_tokens(features, f'where is the {word}?').unflatten(0, (5, 2))
                 for word in ('star', 'dog'))
    assert torch.equal(star[:, 1], dog[:, 1])
    assert (star[:, 0] - dog[:, 0]).abs().amax(-1).min() > 1e-6


def answer(model, imgs, seeds, **options):
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    questions = ['where is the star?'] * len(seeds)
    return model.answer_questions(imgs, questions, AnswerCfg(**options), generators)


def test_answers(model, imgs):
    assert answer(model, imgs, [0], max_new_tokens=5) == answer(model, imgs, [1], max_new_tokens=5)
    state = torch.get_rng_state()
    drawn = dict(max_new_tokens=5, num_answers=2, temperature=5.0)
    first = answer(model, imgs, [0, 1], **drawn)
    assert torch.equal(torch.get_rng_state(), state)
    assert len({*first[0], *first[1]}) == 4
    assert answer(model, imgs, [1], **drawn) == first[1:]


def test_it_selects_key_frames(project, options):
    torch.manual_seed(0)
    selector = build_child(MODELS, dict(
        type='VideoQASelector', mllm=options, dtype='bfloat16',
        test_cfg=dict(num_frames=4, max_new_tokens=3))).eval()
    frames = list(np.random.default_rng(0).integers(0, 255, (6, 30, 40, 3), dtype=np.uint8))
    sample = RefVOSDataSample(metainfo=dict(
        video_id='v', exp_ids=('0', '1'), expressions=('the star', 'the dog')))
    selector.forward(dict(reader=[ArrayReader(frames)]), [sample], mode='predict')
    assert len(sample.key_frame_ids) == 2


def official(model):
    """The weights of a model under the names of the published files: checkpoint, tower."""
    names = (
        ('llm.lm_head.', 'lm_head.'), ('llm.model.', 'model.'),
        ('projector.', 'model.mm_projector.'), ('qformer_norm.', 'model.vlm_att_ln.'),
        ('query_tokens', 'model.vlm_att_query'), ('context_query.', 'model.vlm_att_projector.'),
        ('context_key.', 'model.vlm_att_key_projector.'),
        ('context_value.', 'model.vlm_att_val_projector.'),
        ('qformer.', 'model.vlm_att_encoder.bert.'))
    state, tower = {}, {}
    for name, value in model.state_dict().items():
        if name.startswith('vision.'):
            name = name.removeprefix('vision.')
            for new, old in (('embeddings.class_embedding', 'cls_token'),
                             ('embeddings.position_embedding', 'pos_embed'),
                             ('embeddings.patch_embedding', 'patch_embed.proj'),
                             ('encoder.layers.', 'blocks.'), ('layer_norm', 'norm'),
                             ('self_attn.projection', 'attn.proj'), ('self_attn', 'attn')):
                name = name.replace(new, old)
            if name.endswith('qkv.bias'):
                query, _, values = value.chunk(3)
                tower[name.replace('qkv.bias', 'q_bias')] = query.clone()
                tower[name.replace('qkv.bias', 'v_bias')] = values.clone()
            else:
                tower[name] = value.clone()
            continue
        new, old = next(pair for pair in names if name.startswith(pair[0]))
        name = old + name.removeprefix(new)
        if 'vlm_att_encoder' in name:
            name = name.replace('attention.attention.', 'attention.self.').replace(
                'embeddings.layernorm.', 'embeddings.LayerNorm.')
        state[name] = value.clone()
    state['model.vlm_att_encoder.bert.embeddings.position_ids'] = torch.arange(300)[None]
    tower |= {'blocks.2.norm1.weight': torch.ones(16), 'head.weight': torch.ones(3, 16)}
    return state, tower


@pytest.fixture
def converter(project):
    return programs.load(PROJECT / 'convert_llama_vid.py')


def test_published_names_convert_and_load(converter, model, options, tmp_path):
    with torch.no_grad():  # keys have no bias in the published tower
        for layer in model.vision.encoder.layers:
            layer.self_attn.qkv.bias[16:32] = 0
    state, tower = official(model.float())
    torch.save(tower, tmp_path / 'eva.pth')
    (tmp_path / 'hf').mkdir()
    torch.save(state, tmp_path / 'hf' / 'pytorch_model.bin')
    config = tmp_path / 'config.py'
    config.write_text(Config(dict(
        default_scope='glus_mm', model=dict(type='VideoQASelector', mllm=options))).pretty_text)
    out = tmp_path / 'model.pth'
    converter.convert(str(config), str(tmp_path / 'hf'), str(out), str(tmp_path / 'eva.pth'))
    loaded = init_model(config, out).mllm.state_dict()
    expected = model.state_dict()
    assert set(loaded) == set(expected)
    assert all(torch.equal(loaded[name], expected[name]) for name in expected)
    model.double()

    torch.save(state | {'model.surprise': torch.ones(1)}, tmp_path / 'hf' / 'pytorch_model.bin')
    with pytest.raises(ValueError, match='unknown weights.*\n.*mllm.model.surprise'):
        converter.convert(str(config), str(tmp_path / 'hf'), str(out), str(tmp_path / 'eva.pth'))
    with pytest.raises(ValueError, match='missing in the checkpoint(.|\n)*vision.embeddings'):
        converter.convert(str(config), str(tmp_path / 'hf'), str(out), None)


@pytest.mark.parametrize('key, name', [
    ('tokenizer', 'tokenizer.model of the checkpoint of LLaMA-VID'),
    ('text_tokenizer', 'vocab.txt of bert-base-uncased')])
def test_missing_tokenizers_are_named(project, options, tmp_path, key, name):
    with pytest.raises(FileNotFoundError, match=f'expected {name} in the folder .*README.md'):
        build_child(MODELS, dict(options, **{key: str(tmp_path)}))


@pytest.mark.parametrize('size, width', [('7b', 4096), ('13b', 5120)])
def test_configs_build(project, folder, size, width):
    cfg = Config.fromfile(PROJECT / 'configs' / f'llama-vid-{size}_video-qa.py')
    assert cfg.model.mllm.llm.hidden_size == width
    cfg.model.mllm.update(tokenizer=str(folder), text_tokenizer=str(folder))
    model = empty_model(cfg, size)
    assert model.mllm.vision.encoder.layers[38].self_attn.qkv.weight.shape == (3 * 1408, 1408)
    assert model.mllm.context_value.weight.shape == (width, 1408)
