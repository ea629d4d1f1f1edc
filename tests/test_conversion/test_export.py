"""Models of ours become checkpoints in the official layout, and come back from it."""

import json

import pytest
import torch
from mmengine import Config
from safetensors.torch import load_file

from glus_mm.conversion import convert_glus, export_official
from glus_mm.conversion.official_weights import to_ours
from glus_mm.models import MaskBCELoss
from glus_mm.registry import MODELS, build_child
from glus_mm.utils.weight_files import read_weights
from programs import ROOT

FIXTURE = ROOT / 'tests' / 'data' / 'official_glus_tiny'
Q_PROJ = 'model.layers.1.self_attn.q_proj.weight'


@pytest.fixture
def ours(official):
    """A converted checkpoint; ``official.out`` is free again."""
    convert_glus(official.hf, official.out, sam2=official.yaml)
    return official.out.rename(official.root / 'ours')


def export(ours, out, checkpoint=None, **options):
    export_official(ours / 'config.py', checkpoint or ours / 'model.pth', out, **options)
    return read_weights(out).tensors


def same(ours, theirs):
    return list(ours) == list(theirs) and all(
        ours[name].dtype == value.dtype and torch.equal(ours[name], value)
        for name, value in theirs.items())


def edited(ours, text, new):
    """The config with a text replaced."""
    config = ours / 'config.py'
    assert text in config.read_text()
    config.write_text(config.read_text().replace(text, new))


def test_the_official_fixture_comes_back_bit_for_bit(tmp_path):
    """Keys, their order, values, types and config.json; two shards become one file."""
    convert_glus(FIXTURE / 'checkpoint', tmp_path / 'ours', sam2=str(FIXTURE / 'sam2_tiny_a.yaml'))
    out = tmp_path / 'out'
    weights = export(tmp_path / 'ours', out)
    assert same(weights, read_weights(FIXTURE / 'checkpoint').tensors)
    names = {path.name for path in (FIXTURE / 'checkpoint').iterdir() if 'pytorch' not in path.name}
    assert {path.name for path in out.iterdir()} == names | {'pytorch_model.bin', 'clip'}
    for name in names - {'tokenizer.model'}:
        ours, theirs = (json.loads((folder / name).read_text())
                        for folder in (out, FIXTURE / 'checkpoint'))
        assert {k for k in theirs if ours.pop(k, 0) != theirs[k]} <= {'_name_or_path'}, name
        assert not ours, name
    assert same(read_weights(out / 'clip').tensors, load_file(FIXTURE / 'clip/model.safetensors'))


@pytest.mark.parametrize(('dtype', 'buffer'), [
    (torch.bfloat16, torch.bfloat16), (torch.bfloat16, torch.float32),
    (torch.float16, torch.float16), (torch.float32, torch.float32), (torch.bfloat16, None)])
@pytest.mark.parametrize('safe', [False, True])
def test_round_trip_keeps_types(official, write_weights, dtype, buffer, safe):
    """Of the rotary buffers too, which some checkpoints have in float32 and some not at all."""
    for name in list(official.tensors):
        value = official.tensors.pop(name)
        if 'inv_freq' not in name:
            official.tensors[name] = value.to(dtype)
        elif buffer is not None:
            official.tensors[name] = value.to(buffer)
    write_weights(official.hf, official.tensors, 'safetensors' if safe else 'bin', shards=2)
    convert_glus(official.hf, official.root / 'ours', sam2=official.yaml)
    weights = export(official.root / 'ours', official.out, safe_serialization=safe)
    assert weights.keys() == official.tensors.keys()
    assert same({name: weights[name] for name in official.tensors}, official.tensors)
    config = json.loads((official.out / 'config.json').read_text())
    assert config['torch_dtype'] == str(dtype).removeprefix('torch.')


def test_what_was_exported_can_be_converted(official, ours):
    export(ours, official.out)
    convert_glus(official.out, official.root / 'again', sam2=official.yaml)
    first, second = (torch.load(folder / 'model.pth', weights_only=True)['state_dict']
                     for folder in (ours, official.root / 'again'))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert (ours / 'config.py').read_text().split('default_scope')[1] == (
        official.root / 'again' / 'config.py').read_text().split('default_scope')[1]


@pytest.mark.parametrize('safe', [False, True])
def test_shards(official, ours, safe):
    weights = export(ours, official.out, max_shard_size='500KB', safe_serialization=safe)
    assert set(weights) == set(official.tensors)
    stem, end = ('model', 'safetensors') if safe else ('pytorch_model', 'bin')
    shards = sorted(official.out.glob(f'{stem}-*'))
    assert shards[0].name == f'{stem}-00001-of-{len(shards):05}.{end}'
    assert len(shards) > 1
    largest = max(value.nbytes for value in weights.values())
    # A file of torch.save has some hundred bytes beside each tensor.
    assert all(file.stat().st_size < max(500_000, largest) + 500 * len(weights) for file in shards)
    index = json.loads((official.out / f'{stem}.{end}.index.json').read_text())
    assert index['metadata']['total_size'] == sum(value.nbytes for value in weights.values())
    assert len({file.stat().st_mode for file in official.out.iterdir() if file.is_file()}) == 1


def lora_checkpoint(ours, official, dtype=torch.float32):
    """Config and checkpoint of a training with adapters; the updates of q_proj in layer 1."""
    edited(ours, 'trainable=[]),\n    mask_head',
           "lora=dict(r=2, alpha=6), trainable=['*lora_*', 'lm_head.*']),\n    mask_head")
    model = build_child(MODELS, Config.fromfile(ours / 'config.py').model)
    generator = torch.Generator().manual_seed(1)
    state = {}
    for name, value in model.state_dict().items():
        key = name.replace('.base_layer', '')
        official_name = next((n for n in official.tensors if to_ours(n) == key), None)
        if official_name is not None:
            value = official.tensors[official_name].to(dtype)
        elif 'lora_' in name:
            value = torch.randn(value.shape, generator=generator)
        state[name] = value
    torch.save(dict(state_dict=state, meta=dict(iter=3), optimizer={}), ours / 'iter_3.pth')
    layer = 'mllm.llm.layers.1.self_attn.q_proj.lora_{}.default.weight'
    return ours / 'iter_3.pth', state[layer.format('B')] @ state[layer.format('A')]


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_adapters_are_merged(official, ours, dtype):
    checkpoint, update = lora_checkpoint(ours, official, dtype)
    weights = export(ours, official.out, checkpoint)
    assert weights.keys() == official.tensors.keys()
    base = official.tensors[Q_PROJ].to(dtype)
    assert weights[Q_PROJ].dtype == dtype
    torch.testing.assert_close(weights[Q_PROJ], (base.float() + 3 * update).to(dtype),
                               rtol=1e-6 if dtype == torch.float32 else 1e-2, atol=1e-6)
    assert not torch.equal(weights[Q_PROJ], base)
    k_proj = Q_PROJ.replace('q_proj', 'k_proj')
    assert torch.equal(weights[k_proj], official.tensors[k_proj].to(dtype))


def test_adapters_and_their_config(official, ours, fails):
    plain = (ours / 'config.py').read_text()
    checkpoint, _ = lora_checkpoint(ours, official)
    with_lora = (ours / 'config.py').read_text()
    (ours / 'config.py').write_text(plain)
    message = fails(export, ours, official.out, checkpoint)
    assert 'the checkpoint has LoRA adapters that the model GLUS lacks' in message
    assert 'model.mllm.lora' in message
    (ours / 'config.py').write_text(with_lora)
    assert same(export(ours, official.out), export(ours, official.root / 'plain'))
    assert torch.equal(read_weights(official.out).tensors[Q_PROJ], official.tensors[Q_PROJ])


def test_cast(official, ours):
    weights = export(ours, official.out, dtype='bfloat16')
    assert {value.dtype for value in weights.values()} == {torch.bfloat16}
    assert torch.equal(weights[Q_PROJ], official.tensors[Q_PROJ].bfloat16())
    assert json.loads((official.out / 'config.json').read_text())['torch_dtype'] == 'bfloat16'


def test_vision_tower(official, ours):
    """One that is not OpenAI's goes along; a name can be given instead."""
    export(ours, official.out)
    config = json.loads((official.out / 'config.json').read_text())
    assert (config['vision_tower'], config['mm_vision_tower']) == ('clip', 'clip')
    tower = read_weights(official.out / 'clip').tensors
    assert all(torch.equal(tower[name], value) for name, value in official.tower.items())
    export(ours, official.root / 'named', vision_tower='org/clip-mine')
    config = json.loads((official.root / 'named' / 'config.json').read_text())
    assert config['mm_vision_tower'] == 'org/clip-mine'
    assert not (official.root / 'named' / 'clip').exists()


class CountingLoss(MaskBCELoss):
    """A loss of a project that has state of its own."""

    def __init__(self):
        super().__init__()
        self.register_buffer('count', torch.zeros(1))


def test_state_of_a_loss_is_left_out_and_said(official, ours, logged):
    MODELS.register_module(module=CountingLoss, force=True)
    edited(ours, 'test_cfg=dict(use_memory',
           "loss_mask_bce=dict(type='CountingLoss'),\n    test_cfg=dict(use_memory")
    state = torch.load(ours / 'model.pth', weights_only=True)['state_dict']
    torch.save(dict(state_dict=state | {'loss_mask_bce.count': torch.zeros(1)}), ours / 'i.pth')
    assert export(ours, official.out, ours / 'i.pth').keys() == official.tensors.keys()
    assert logged[-1] == ('left out, as the official layout has no place for it (1):\n'
                          '  loss_mask_bce.count')


@pytest.mark.parametrize(('text', 'new', 'line'), [
    ("pooling='raster4'", "pooling='2x2'", "model.mllm.pooling: '2x2', officially raster4"),
    ("'llava_v1'", "'compact'", "model.mllm.template: 'compact', officially llava_v1"),
    ("'center'", "'squash'", "model.mllm.vision_crop: 'squash', officially center"),
    ('image_size=1024', 'image_size=512', 'model.mask_head.image_size: 512, officially 1024'),
    ('dynamic_multimask=True', 'dynamic_multimask=False',
     'model.mask_head.dynamic_multimask: False, officially True'),
    ('rope_theta=10000.0', 'rope_theta=5e5',
     'model.mllm.llm.rope_parameters.rope_theta: 500000.0, officially 10000.0'),
    ("hidden_act='silu'", "hidden_act='silu', head_dim=6",
     'model.mllm.llm.head_dim: 6, officially 4'),
    ("type='GLUS',", "type='GLUS', data_preprocessor=dict(type='RefVOSDataPreprocessor', "
     'vision_std=(1, 1, 1)),', 'model.data_preprocessor.vision_std: [1.0, 1.0, 1.0], officially')])
def test_settings_that_the_official_code_lacks(official, ours, fails, text, new, line):
    edited(ours, text, new)
    message = fails(export, ours, official.out)
    head, *rows = message.splitlines()
    assert head == (f'{ours}/config.py: cannot be written as an official model, as the official '
                    'code has not these settings:')
    assert len(rows) == 1
    assert rows[0].strip().startswith(line)


def test_the_shipped_model_is_no_official_one(tmp_path):
    config = ROOT / 'configs' / 'glus' / 'glus_tiny_moving-shapes.py'
    with pytest.raises(ValueError) as error:
        export_official(config, ROOT / 'checkpoints' / 'glus_tiny_moving-shapes.pth',
                        tmp_path / 'out')
    keys = [line.split(':')[0].strip() for line in str(error.value).splitlines()[1:]]
    assert keys == [f'model.{key}' for key in (
        'mllm.template', 'mllm.pooling', 'mllm.vision_crop',
        'mllm.llm.rope_parameters.rope_theta', 'mask_head.sam2',
        'mask_head.image_size', 'mask_head.dynamic_multimask')]
    assert not (tmp_path / 'out').exists()


def test_config_that_makes_no_model(official, ours, fails):
    for cfg, message in ((dict(), 'expected a config with model = dict(type=...), got None'),
                         (dict(model=dict(type='NoSuch')), 'NoSuch'),
                         (dict(model=dict(type='GLUS', widht=3)), "'widht'"),
                         (dict(model=dict(type='TokenCELoss')),
                          'expected a GLUS with LlavaMLLM and SAM2MemoryHead')):
        assert message in fails(export_official, Config(cfg), ours / 'model.pth', official.out)


def test_checkpoints_that_do_not_fit(official, ours, fails):
    state = torch.load(ours / 'model.pth', weights_only=True)['state_dict']
    path = ours / 'other.pth'
    for change, line in (
            ({'mllm.new': torch.zeros(1)}, '  mllm.new'),
            ({'mllm.lm_head.weight': torch.zeros(2, 16)},
             '  mllm.lm_head.weight: expected (483, 16), got (2, 16)')):
        torch.save(dict(state_dict=state | change), path)
        message = fails(export, ours, official.out, path)
        assert line in message.splitlines()
        assert str(path) in message
    torch.save(dict(state_dict=dict(state, **{'mllm.lm_head.weight': state[
        'mllm.lm_head.weight'] * float('nan')})), path)
    assert fails(export, ours, official.out, path) == (
        f'{path}: expected finite values, got NaN or infinity in lm_head.weight')
    del state['mllm.lm_head.weight']
    torch.save(dict(state_dict=state), path)
    assert 'missing in the checkpoint (1):\n  mllm.lm_head.weight' in fails(
        export, ours, official.out, path)


def test_wrong_arguments(official, ours, fails):
    for size in ('10', 'big', '0GB', '-1GB'):
        assert repr(size) in fails(export, ours, official.out, max_shard_size=size)
    assert "dtype must be one of ('float32', 'bfloat16', 'float16'), got 'int8'" in fails(
        export, ours, official.out, dtype='int8')
    for config, checkpoint, what in (('no.py', ours / 'model.pth', 'config'),
                                     (ours / 'config.py', 'no.pth', 'checkpoint')):
        message = fails(export_official, config, checkpoint, official.out, kind=FileNotFoundError)
        assert f'expected a {what} file, got nothing there: no.p' in message
    with pytest.raises(ValueError, match='an output folder that is not an input'):
        export(ours, ours, force=True)


def test_force_replaces_an_earlier_export(official, ours):
    export(ours, official.out, max_shard_size='500KB')
    (official.out / 'README.md').write_text('mine')
    with pytest.raises(FileExistsError, match='expected a new or empty output folder'):
        export(ours, official.out)
    weights = export(ours, official.out, safe_serialization=True, vision_tower='org/clip',
                     force=True)
    assert weights.keys() == official.tensors.keys()
    assert {path.name for path in official.out.iterdir()} == {
        'README.md', 'config.json', 'generation_config.json', 'model.safetensors',
        'tokenizer.model', 'added_tokens.json', 'tokenizer_config.json', 'special_tokens_map.json'}
