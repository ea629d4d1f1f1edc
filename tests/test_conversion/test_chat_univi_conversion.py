"""Chat-UniVi checkpoints: names, vocabulary, settings, errors with lists, and what they run as."""

import json

import pytest
import torch
from mmengine import Config

from glus_mm.apis import init_model
from glus_mm.conversion import convert_chat_univi, convert_glus, convert_lisa
from glus_mm.conversion.official_weights import to_official
from glus_mm.models import KeyFrameSelector
from glus_mm.models.inference import ArrayReader
from glus_mm.structures import RefVOSDataSample

CLUSTERS = dict(use_cluster=True, freeze=False, vision_tune=False, spatial_cluster_rate0=4,
                spatial_cluster_rate1=3, spatial_cluster_rate2=2, temporal_cluster_rate=1 / 16)
PIECES = 480
TABLES = ('model.embed_tokens.weight', 'lm_head.weight')


@pytest.fixture
def chat_univi(official):
    """A checkpoint in the layout of Chat-UniVi: LLaVA's names, no added tokens."""
    official.edit('hf/config.json', model_type='ChatUniVi', config=CLUSTERS, vocab_size=PIECES,
                  architectures=['ChatUniViLlamaForCausalLM'], mm_use_im_start_end=False)
    (official.hf / 'added_tokens.json').unlink()
    official.tensors = {
        name: value[:PIECES] if name in TABLES else value
        for name, value in official.tensors.items()
        if not name.startswith(('model.visual_model.', 'model.text_hidden_fcs.'))}
    official.save()
    return official


def converted(folder):
    return torch.load(folder / 'model.pth', weights_only=True)['state_dict']


def test_every_weight_keeps_its_value(chat_univi):
    with pytest.warns(DeprecationWarning, match='kind is not needed'):
        convert_chat_univi(chat_univi.hf, chat_univi.out, kind='qa')
    state, back = converted(chat_univi.out), {}
    for name, value in state.items():
        if name.startswith('mllm.vision_tower.'):
            short = name.removeprefix('mllm.vision_tower.').removeprefix('vision_model.')
            assert torch.equal(value, chat_univi.tower[f'vision_model.{short}'])
        elif not name.startswith(('mllm.seg_projector.', 'score.')):
            back[to_official(name)] = value
    expected = {name: value for name, value in chat_univi.tensors.items()
                if not name.endswith('inv_freq')}
    assert set(back) == set(expected)
    for name, value in expected.items():
        assert torch.equal(back[name][:len(value)], value), name
    assert any(name.startswith('score.') for name in state)


def test_new_tokens_have_the_mean_of_the_others(chat_univi):
    convert_chat_univi(chat_univi.hf, chat_univi.out)
    added = json.loads((chat_univi.out / 'added_tokens.json').read_text())
    assert added == {'[SEG]': 480, '<im_start>': 481, '<im_end>': 482, '[SCORE]': 483}
    state = converted(chat_univi.out)
    for name, table in (('mllm.llm.embed_tokens.weight', TABLES[0]),
                        ('mllm.lm_head.weight', TABLES[1])):
        mean = chat_univi.tensors[table].mean(0)
        assert len(state[name]) == 484
        torch.testing.assert_close(state[name][PIECES:], mean.expand(4, -1))


def test_padded_vocabularies_and_tokens_that_are_there(chat_univi):
    (chat_univi.hf / 'added_tokens.json').write_text(json.dumps({'<pad>': 480, '</s>': 2}))
    for name in TABLES:
        chat_univi.tensors[name] = torch.randn(512, 16)
    chat_univi.save()
    chat_univi.edit('hf/config.json', vocab_size=512)
    convert_chat_univi(chat_univi.hf, chat_univi.out)
    added = json.loads((chat_univi.out / 'added_tokens.json').read_text())
    assert added['<pad>'] == 480 and added['[SCORE]'] == 484
    table = converted(chat_univi.out)['mllm.lm_head.weight']
    expected = chat_univi.tensors['lm_head.weight']
    assert len(table) == 512 and torch.equal(table[:484], expected[:484])
    assert torch.equal(table[485:], expected[485:])
    init_model(chat_univi.out / 'config.py', chat_univi.out / 'model.pth')


def test_the_selector_runs_and_trains_from_it(chat_univi):
    convert_chat_univi(chat_univi.hf, chat_univi.out, seed=3)
    cfg = Config.fromfile(chat_univi.out / 'config.py')
    assert cfg.model.mllm.spatial_clusters == (4, 3, 2)
    assert cfg.model.mllm.temporal_cluster_rate == 1 / 16
    model = init_model(chat_univi.out / 'config.py', chat_univi.out / 'model.pth',
                       cfg_options={'model.test_cfg.need_token': False})
    assert isinstance(model, KeyFrameSelector)
    assert torch.equal(model.mllm.projector.weight,
                       chat_univi.tensors['model.mm_projector.weight'])
    keys = model.select(reader(), sample())
    assert keys.scores.shape == (1, 6) and torch.isfinite(keys.scores).all()


def reader():
    frames = torch.randint(0, 255, (6, 30, 40, 3), dtype=torch.uint8,
                           generator=torch.Generator().manual_seed(0)).numpy()
    return ArrayReader(list(frames))


def sample():
    return RefVOSDataSample(metainfo=dict(
        video_id='v', exp_ids=('0', ), expressions=('the cat', )))


def test_the_seed_makes_the_new_mlp(chat_univi, tmp_path):
    state = torch.get_rng_state()
    for name, seed in (('a', 0), ('b', 0), ('c', 1)):
        convert_chat_univi(chat_univi.hf, tmp_path / name, seed=seed)
    assert torch.equal(torch.get_rng_state(), state)
    a, b, c = (converted(tmp_path / name) for name in 'abc')
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert {name for name in a if not torch.equal(a[name], c[name])} == {
        name for name in a if name.startswith(('mllm.seg_projector.', 'score.'))}


@pytest.mark.parametrize('change, listed', [
    (dict(remove='model.norm.weight'), r'missing, with the expected shape.*\n.*model.norm.weight'),
    (dict(add='model.ctm0.score.weight'), r'unknown, with the shape found.*\n.*model.ctm0.score'),
    (dict(shape='model.mm_projector.weight'),
     r'other shape.*\n.*model.mm_projector.weight: expected \(16, 8\), got \(3, 3\)')])
def test_keys_that_do_not_fit_are_listed(chat_univi, change, listed):
    for kind, name in change.items():
        if kind == 'remove':
            del chat_univi.tensors[name]
        else:
            chat_univi.tensors[name] = torch.zeros(3, 3)
    chat_univi.save()
    with pytest.raises(ValueError, match=listed):
        convert_chat_univi(chat_univi.hf, chat_univi.out)
    assert not chat_univi.out.exists()


@pytest.mark.parametrize('values, message', [
    (None, '"use_cluster": true'), (dict(CLUSTERS, use_cluster=False), 'is a LLaVA'),
    (dict(CLUSTERS, spatial_cluster_rate1=0.5), r'counts of tokens above 1 .* got \(4, 0.5, 2\)'),
    (dict(CLUSTERS, temporal_cluster_rate=4), r'a ratio in \(0, 1\] as temporal_cluster_rate'),
    (dict(CLUSTERS, spatial_cluster_rate0=64), 'the 4 patches of a frame')])
def test_wrong_clusters_are_refused(chat_univi, values, message):
    chat_univi.edit('hf/config.json', config=values)
    with pytest.raises(ValueError, match=message):
        convert_chat_univi(chat_univi.hf, chat_univi.out)
    assert not chat_univi.out.exists()


def test_legacy_false_of_vicuna_is_not_kept(chat_univi):
    settings = dict(legacy=False, add_bos_token=True, model_max_length=2048)
    (chat_univi.hf / 'tokenizer_config.json').write_text(json.dumps(settings))
    convert_chat_univi(chat_univi.hf, chat_univi.out)
    kept = json.loads((chat_univi.out / 'tokenizer_config.json').read_text())
    assert kept == dict(add_bos_token=True, model_max_length=2048)


def test_other_converters_do_not_take_it_and_it_takes_no_other(chat_univi):
    with pytest.raises(ValueError, match="model_type 'llava' .* got model_type 'ChatUniVi'"):
        convert_glus(chat_univi.hf, chat_univi.out)
    with pytest.raises(ValueError, match="got model_type 'ChatUniVi'"):
        convert_lisa(chat_univi.hf, chat_univi.out)
    chat_univi.edit('hf/config.json', model_type='llava', config=None)
    with pytest.raises(ValueError, match='as a checkpoint of Chat-UniVi'):
        convert_chat_univi(chat_univi.hf, chat_univi.out)
