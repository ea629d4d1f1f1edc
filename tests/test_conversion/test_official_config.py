"""config.json of official checkpoints."""

import json

import pytest

from glus_mm.conversion.official_config import read_official_config


def test_sizes(official):
    config = read_official_config(official.hf)
    assert config.llm == dict(
        hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=512, rms_norm_eps=1e-6, hidden_act='silu',
        initializer_range=0.02, vocab_size=483,
        rope_parameters=dict(rope_type='default', rope_theta=10000.0))
    assert (config.architecture, config.vision_tower, config.vision_width,
            config.vision_select_layer) == ('GLUSForCausalLM', 'clip', 8, -2)


@pytest.mark.parametrize(('values', 'rope'), [
    (dict(rope_theta=5e5), dict(rope_type='default', rope_theta=5e5)),
    (dict(rope_scaling=dict(type='linear', factor=2.0)),
     dict(rope_type='linear', factor=2.0, rope_theta=10000.0)),
    (dict(rope_scaling=dict(type='dynamic', factor=4.0), rope_theta=1e4),
     dict(rope_type='dynamic', factor=4.0, rope_theta=10000.0)),
    (dict(rope_parameters=dict(rope_type='default', rope_theta=7.0)),
     dict(rope_type='default', rope_theta=7.0))])
def test_rope(official, values, rope):
    official.edit('hf/config.json', **values)
    assert read_official_config(official.hf).llm['rope_parameters'] == rope


def test_unusual_sizes_are_kept(official):
    official.edit('hf/config.json', head_dim=6, attention_bias=True, mm_vision_select_layer=-1,
                  num_key_value_heads=None)
    config = read_official_config(official.hf)
    assert config.llm['head_dim'] == 6
    assert config.llm['attention_bias'] is True
    assert config.llm['num_key_value_heads'] == 4
    assert config.vision_select_layer == -1


@pytest.mark.parametrize(('values', 'message'), [
    (dict(model_type='llama'), "got model_type 'llama'"),
    (dict(model_type=None), 'got model_type None'),
    (dict(hidden_size=None), "'llava', without the LLaMA sizes ['hidden_size']"),
    (dict(vocab_size='483'), "without the LLaMA sizes ['vocab_size']"),
    (dict(num_attention_heads=5), 'not a multiple of the number of attention heads'),
    (dict(num_key_value_heads=3), 'expected a num_key_value_heads that divides the 4 heads, got 3'),
    (dict(rms_norm_eps='small'), "'rms_norm_eps' expected float, got str"),
    (dict(rope_scaling='linear'), 'rope_parameters'),
    (dict(rope_scaling=dict(type='linear')), "Missing required keys in `rope_parameters`"),
    (dict(rope_parameters=dict(rope_type='yarn', factor=2.0)),
     "expected a rotary embedding of a type in ('default', 'linear', 'dynamic'), got 'yarn'"),
    (dict(mm_vision_select_feature='cls_patch'),
     "expected mm_vision_select_feature 'patch', got 'cls_patch'"),
    (dict(tie_word_embeddings=True), 'expected tie_word_embeddings False, got True'),
    (dict(mm_projector_type='mlp2x_gelu'), "got 'mlp2x_gelu', which LLaVA 1.5 has"),
    (dict(mm_vision_select_layer='last'),
     "expected an integer as mm_vision_select_layer, got 'last'")])
def test_other_models(official, values, message):
    official.edit('hf/config.json', **values)
    with pytest.raises(ValueError) as error:
        read_official_config(official.hf)
    assert message in str(error.value)
    assert str(official.hf / 'config.json') in str(error.value)


def test_models_of_today_and_none(official, tmp_path):
    """model_type 'llava' means another class and layout in transformers since 4.36."""
    content = dict(model_type='llava', architectures=['LlavaForConditionalGeneration'],
                   text_config=dict(hidden_size=16), vision_config={})
    (official.hf / 'config.json').write_text(json.dumps(content))
    with pytest.raises(ValueError, match="without the LLaMA sizes .'hidden_size'"):
        read_official_config(official.hf)
    what = 'a checkpoint of GLUS, LISA or LLaVA v1 in the layout of Hugging Face'
    for path, message in ((tmp_path / 'no', f'expected a folder with {what}, got nothing there'),
                          (tmp_path, f'expected {what}, but there is no {tmp_path}/config.json')):
        with pytest.raises(FileNotFoundError) as error:
            read_official_config(path)
        assert message in str(error.value)
    (tmp_path / 'config.json').write_text('{')
    with pytest.raises(ValueError, match=r'config\.json: expected a JSON file'):
        read_official_config(tmp_path)
    with pytest.raises(FileNotFoundError, match='got a file'):
        read_official_config(tmp_path / 'config.json')


def test_name_on_the_hub():
    with pytest.raises(FileNotFoundError) as error:
        read_official_config('Swindl/GLUS-S')
    assert str(error.value).endswith(
        'got nothing there: Swindl/GLUS-S; run "hf download Swindl/GLUS-S --local-dir DIR" first')
