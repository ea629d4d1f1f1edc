"""Vision towers: where they are found, their layouts, and their preprocessing."""

import json
import shutil

import pytest
import torch

from glus_mm.conversion.official_config import (
    OPENAI_TOWERS,
    load_clip_tower,
    read_official_config,
)

SIZES = dict(hidden_size=8, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2,
             image_size=28, patch_size=14, hidden_act='quick_gelu', layer_norm_eps=1e-5)


def load(official, clip=None, held=None):
    return load_clip_tower(None if clip is None else str(clip),
                           read_official_config(official.hf), held or {})


def same(tower, official, prefix='vision_model.'):
    expected = {name.removeprefix(prefix): value for name, value in official.tower.items()}
    return tower.tensors.keys() == expected.keys() and all(
        torch.equal(value, expected[name]) for name, value in tower.tensors.items())


def refused(official, clip=None, kind=ValueError, **options):
    with pytest.raises(kind) as error:
        load(official, clip, **options)
    return str(error.value)


def test_beside_inside_and_absolute(official):
    tower = load(official)
    assert (tower.name, tower.sizes) == ('clip', SIZES)
    assert same(tower, official)
    shutil.move(official.clip, official.hf / 'clip')
    assert same(load(official), official)
    shutil.move(official.hf / 'clip', official.root / 'elsewhere')
    official.edit('hf/config.json', mm_vision_tower=str(official.root / 'elsewhere'))
    tower = load(official)
    assert (tower.name, same(tower, official)) == ('elsewhere', True)
    official.edit('hf/config.json', mm_vision_tower=None, vision_tower='../elsewhere')
    assert same(load(official), official)


def test_names_of_transformers_5(official, write_weights):
    bare = {name.removeprefix('vision_model.'): value for name, value in official.tower.items()}
    write_weights(official.clip, bare)
    assert same(load(official), official)
    write_weights(official.clip, official.tower | {'pre_layrnorm.bias': torch.zeros(8)})
    assert 'got pre_layrnorm.bias with and without vision_model.' in refused(official)


@pytest.mark.parametrize('layout', ['vision_config', 'vision_config_dict', 'both'])
def test_full_clip(official, write_weights, layout):
    """Its text part is left aside; sizes may be stated only where they are no default."""
    stated = {key: SIZES[key] for key in list(SIZES)[:6]}
    other = dict(hidden_size=768, model_type='clip_vision_model')
    nested = dict(vision_config=dict(vision_config=stated),
                  vision_config_dict=dict(vision_config=None, vision_config_dict=stated),
                  both=dict(vision_config=other, vision_config_dict=stated))[layout]
    (official.clip / 'config.json').write_text(json.dumps(dict(
        nested, model_type='clip', architectures=['CLIPModel'], text_config=dict(hidden_size=8))))
    write_weights(official.clip, official.tower | {
        'vision_model.embeddings.position_ids': torch.arange(5)[None],
        'text_model.embeddings.position_ids': torch.arange(77)[None],
        'text_model.final_layer_norm.weight': torch.ones(8), 'logit_scale': torch.ones(()),
        'text_projection.weight': torch.ones(4, 8), 'visual_projection.weight': torch.ones(4, 8)})
    tower = load(official)
    assert tower.sizes == SIZES
    assert same(tower, official)


def test_position_ids_have_to_count(official, write_weights):
    name = 'vision_model.embeddings.position_ids'
    write_weights(official.clip, official.tower | {name: torch.tensor([[0, 1, 3, 2, 4]])})
    assert f'expected {name} of the vision tower to count from 0' in refused(official)


@pytest.mark.parametrize('values', [
    dict(size=dict(shortest_edge=28), crop_size=dict(height=28, width=28), do_rescale=True,
         rescale_factor=1 / 255, do_convert_rgb=True),
    dict(size=28, crop_size=28), dict(size=None, crop_size=None, resample=None),
    dict(image_std=[0.26862955, 0.26130259, 0.27577710])])
def test_preprocessing_that_is_ours(official, values):
    official.edit('clip/preprocessor_config.json', **values)
    assert same(load(official), official)


@pytest.mark.parametrize(('values', 'message'), [
    (dict(size=224), "expected size 28 or {'shortest_edge': 28}"),
    (dict(size=dict(height=28, width=28)), "got {'height': 28, 'width': 28}"),
    (dict(crop_size=dict(height=14, width=28)), "expected crop_size 28 or {'height': 28"),
    (dict(resample=2), 'expected resample 3'), (dict(do_center_crop=False), 'do_center_crop True'),
    (dict(do_resize=False), 'do_resize True'), (dict(rescale_factor=1.0), 'rescale_factor 0.0039'),
    (dict(image_mean=[0.5, 0.5, 0.5]), 'expected image_mean [0.48145'),
    (dict(image_std=0.5), 'expected image_std [0.26862')])
def test_another_preprocessing(official, values, message):
    official.edit('clip/preprocessor_config.json', **values)
    error = refused(official)
    assert error.startswith(f'{official.clip}/preprocessor_config.json: expected')
    assert message in error


def test_no_preprocessing_is_said(official, logged):
    (official.clip / 'preprocessor_config.json').unlink()
    assert same(load(official), official)
    assert logged == [f"there is no {official.clip}/preprocessor_config.json; CLIP's usual "
                      'preprocessing to 28 pixels is meant']


@pytest.mark.parametrize(('values', 'message'), [
    (dict(model_type='siglip_vision_model'), "got 'siglip_vision_model'"),
    (dict(num_channels=4), 'expected num_channels 3, got 4'),
    (dict(hidden_size='8'), 'fails with'),
    (dict(hidden_size=16), 'expected a vision tower of the width 8 (mm_hidden_size in ')])
def test_another_tower(official, values, message):
    official.edit('clip/config.json', **values)
    error = refused(official)
    assert message in error
    assert str(official.clip / 'config.json') in error


def test_nowhere(official):
    shutil.rmtree(official.clip)
    message = refused(official, kind=FileNotFoundError)
    assert f"expected the vision tower 'clip', which {official.hf}/config.json names," in message
    assert message.endswith('give one with --clip')
    assert "'/no/such'" in refused(official, '/no/such', kind=FileNotFoundError)
    official.edit('hf/config.json', mm_vision_tower=None)
    assert 'expected mm_vision_tower, the name of a CLIP model, got none' in refused(official)


def test_from_the_hub(official, local_hub):
    message = refused(official, 'openai/clip-vit-large-patch14', kind=ConnectionError)
    assert 'openai/clip-vit-large-patch14' in message
    assert message.endswith(
        'Where there is a network, run "hf download openai/clip-vit-large-patch14 --local-dir '
        'DIR", and give that folder with --clip DIR.')
    local_hub.publish('openai/clip-vit-tiny', official.clip)
    official.edit('hf/config.json', mm_vision_tower='openai/clip-vit-tiny')
    shutil.rmtree(official.clip)
    tower = load(official)
    assert tower.name == 'openai/clip-vit-tiny'
    assert same(tower, official)
    assert same(load(official, 'openai/clip-vit-tiny'), official)


def test_in_the_checkpoint(official, local_hub, logged):
    """Its own weights count, unless a tower is asked for; OpenAI's needs no look at the hub."""
    held = {name: value + 1 for name, value in official.tower.items()}
    for file in official.clip.glob('*.bin'):
        file.rename(official.root / file.name)
    tower = load(official, held=held)
    assert not same(tower, official)
    assert torch.equal(tower.tensors['pre_layrnorm.bias'], held['vision_model.pre_layrnorm.bias'])
    (official.root / 'pytorch_model.bin').rename(official.clip / 'pytorch_model.bin')
    assert same(load(official, official.clip, held), official)
    assert logged == [f'the vision tower is {official.clip}, not the one in {official.hf}']
    name = 'openai/clip-vit-large-patch14-336'
    official.edit('hf/config.json', mm_vision_tower=name)
    tower = load(official, held=held)
    assert (tower.name, tower.sizes) == (name, OPENAI_TOWERS[name])
    assert tower.sizes['image_size'] == 336
