"""Official checkpoints become folders that run; what does not fit is refused and named."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from mmengine import Config

from glus_mm.apis import init_model
from glus_mm.conversion import convert_glus, convert_lisa
from glus_mm.conversion.convert import OUTPUTS
from glus_mm.conversion.official_weights import to_ours, with_tower_names_of

REPO = Path(__file__).resolve().parents[2]
FILES = {'config.py', 'model.pth', 'sam2.yaml', 'tokenizer.model', 'added_tokens.json'}
NORM = 'model.norm.weight'


def converted(folder):
    return torch.load(folder / 'model.pth', weights_only=True)['state_dict']


def rewrite(official, **changes):
    """Change weights of the checkpoint (None: take out) and write it again."""
    official.tensors.update({key.replace('__', '.'): value for key, value in changes.items()})
    official.tensors = {key: value for key, value in official.tensors.items()
                        if value is not None}
    official.save()


@pytest.mark.parametrize(('dtype', 'runs_in'), [
    (torch.float32, 'float32'), (torch.bfloat16, 'bfloat16'), (torch.float16, 'bfloat16')])
def test_every_weight_has_its_place_and_type(official, write_weights, dtype, runs_in):
    write_weights(official.hf, {k: v.to(dtype) for k, v in official.tensors.items()}, shards=3)
    convert_glus(official.hf, official.out, sam2=official.yaml)
    assert {path.name for path in official.out.iterdir()} == FILES
    state = converted(official.out)
    for name, value in official.tensors.items():
        if 'inv_freq' not in name:
            assert state[to_ours(name)].dtype == dtype
            assert torch.equal(state.pop(to_ours(name)), value.to(dtype)), name
    tower = {name.rpartition('vision_model.')[2].removeprefix('mllm.vision_tower.'): value
             for name, value in state.items()}
    assert tower.keys() == {name.removeprefix('vision_model.') for name in official.tower}
    for name, value in tower.items():
        assert torch.equal(value, official.tower[f'vision_model.{name}']), name
    assert Config.fromfile(official.out / 'config.py').model.dtype == runs_in


def test_the_folder_runs_and_can_be_moved(official):
    convert_glus(official.hf, official.out, sam2=official.yaml, num_context=2, num_query=3,
                 memory_stride=5)
    moved = official.root / 'else where'
    official.out.rename(moved)
    shutil.rmtree(official.hf)
    os.remove(official.yaml)
    model = init_model(moved / 'config.py', moved / 'model.pth')
    cfg = model.test_cfg
    assert (cfg.num_context, cfg.window, cfg.memory_stride, cfg.use_memory) == (2, 3, 5, True)
    assert (model.mllm.pooling, model.mllm.vision_crop) == ('raster4', 'center')
    assert model.mllm.tokenizer.seg_id == 480
    assert len(model.mllm.tokenizer) == model.mllm.lm_head.out_features
    assert model.mask_head.sam2.sam_mask_decoder.dynamic_multimask_via_stability
    assert not any(p.requires_grad for p in model.parameters())
    assert torch.equal(model.mllm.llm.norm.weight, official.tensors[NORM])
    text = (moved / 'config.py').read_text()
    assert '# Token ids: [SEG] 480, <im_start> 481, <im_end> 482.' in text
    assert "from the folder 'hf' (GLUSForCausalLM)" in text
    assert str(official.root) not in text
    assert max(map(len, text.splitlines())) <= 100
    pipeline = Config.fromfile(moved / 'config.py').test_dataloader.dataset.pipeline
    assert 'num_context' not in pipeline[0]


def test_config_holds_only_what_cannot_be_derived(official):
    convert_glus(official.hf, official.out, sam2=official.yaml)
    model = Config.fromfile(official.out / 'config.py').model
    assert 'vocab_size' not in model.mllm.llm
    assert 'seg_dim' not in model.mllm
    assert model.mllm.vision_tower.image_size == 28
    assert model.mask_head.image_size == 1024
    assert model.mllm.llm.num_key_value_heads == 2


def test_config_is_that_of_the_repository(official):
    """Data set, metric and runtime, which are written out as the repository may not be there."""
    convert_glus(official.hf, official.out, sam2=official.yaml)
    ours = Config.fromfile(official.out / 'config.py')
    theirs = Config.fromfile(REPO / 'configs' / 'glus' / 'glus_lisa-7b_sam2-l.py')
    shared = set(ours) & set(theirs)
    assert set(ours) <= shared
    hooks = ours.pop('default_hooks')
    assert hooks == {name: theirs.default_hooks[name] for name in hooks}
    assert {key for key in shared & set(ours) if ours[key] != theirs[key]} == {'model', 'load_from'}
    for part, keys in (('mllm', ('template', 'pooling', 'vision_crop', 'vision_select_layer',
                                 'trainable')),
                       ('mask_head', ('image_size', 'dynamic_multimask', 'trainable'))):
        assert all(ours.model[part][key] == theirs.model[part][key] for key in keys)
    assert ours.model.test_cfg == theirs.model.test_cfg


def test_rows_beyond_the_tokenizer_stay(official):
    official.edit('hf/config.json', vocab_size=512)
    rows = {name: torch.randn(512, 16) for name in ('model.embed_tokens.weight', 'lm_head.weight')}
    official.tensors |= rows
    official.save()
    convert_glus(official.hf, official.out, sam2=official.yaml)
    assert Config.fromfile(official.out / 'config.py').model.mllm.llm.vocab_size == 512
    model = init_model(official.out / 'config.py', official.out / 'model.pth')
    assert torch.equal(model.mllm.lm_head.weight, rows['lm_head.weight'])


def test_shipped_sam2_config_by_its_name(official, fails):
    """The width of the checkpoint does not fit it; every key is listed, with a hint."""
    message = fails(convert_glus, official.hf, official.out)
    head, hint, *_ = message.splitlines()
    assert head == (f'{official.hf}: the weights do not fill the model that config.json, the '
                    'vision tower and --sam2 sam2_hiera_l describe')
    assert hint == ('None of the configs that the sam2 package ships has the sizes of the SAM-2 of '
                    'the checkpoint: give its YAML file with --sam2.')
    assert 'no_mem_embed: expected (1, 1, 256), got (1, 1, 32)' in message
    assert 'lm_head' not in message


def test_which_shipped_sam2_config_fits(official, fails):
    """A trunk as sam2_hiera_s has it, in a checkpoint whose other parts are small."""
    key = 'model.visual_model.image_encoder.trunk.'
    blocks = {f'{key}blocks.{i}.norm1.weight': torch.zeros(8) for i in range(16)}
    rewrite(official, **blocks, **{f'{key}patch_embed.proj.weight': torch.zeros(96, 3, 7, 7)})
    message = fails(convert_glus, official.hf, official.out, sam2=official.yaml)
    assert 'The SAM-2 of the checkpoint has the sizes of --sam2 sam2_hiera_s.' in message


@pytest.mark.parametrize(('changes', 'lines'), [
    ({NORM: None}, ['missing, with the expected shape (1):', f'  {NORM}: (16,)']),
    ({'model.new.weight': torch.zeros(3)},
     ['unknown, with the shape found (1):', '  model.new.weight: (3,)']),
    ({NORM: torch.zeros(17)}, ['other shape (1):', f'  {NORM}: expected (16,), got (17,)']),
    ({'model.mm_projector.weight': None, 'model.mm_projector.0.weight': torch.zeros(16, 8)},
     ['The projector has several layers, as in LLaVA 1.5; LLaVA v1, LISA and GLUS have one linear '
      'layer.', '  model.mm_projector.weight: (16, 8)', '  model.mm_projector.0.weight: (16, 8)']),
    ({'model.visual_model.no_mem_embed': None}, ['  model.visual_model.no_mem_embed: (1, 1, 32)'])])
def test_keys_that_do_not_fit(official, fails, changes, lines):
    rewrite(official, **changes)
    message = fails(convert_glus, official.hf, official.out, sam2=official.yaml)
    assert message.startswith(f'{official.hf}: the weights do not fill the model')
    for line in lines:
        assert line in message.splitlines(), message


def test_tower_that_does_not_fit(official, fails):
    official.tower.pop('vision_model.pre_layrnorm.bias')
    official.save()
    message = fails(convert_glus, official.hf, official.out, sam2=official.yaml)
    assert 'vision_model.pre_layrnorm.bias (vision tower): (8,)' in message
    assert 'Give a folder whose config.json and weights agree with --clip.' in message


@pytest.mark.parametrize(('value', 'message'), [
    (torch.tensor([0.0] * 15 + [float('nan')]), f'got NaN or infinity in {NORM}'),
    (torch.tensor([0.0] * 15 + [float('-inf')]), f'got NaN or infinity in {NORM}'),
    (torch.full((16, ), float('nan'), dtype=torch.bfloat16), f'got NaN or infinity in {NORM}'),
    (torch.zeros(16, dtype=torch.int8),
     f'expected float32, float16 or bfloat16, got torch.int8: {NORM}')])
def test_values_that_cannot_be_used(official, fails, value, message):
    rewrite(official, **{NORM: value})
    error = fails(convert_glus, official.hf, official.out, sam2=official.yaml)
    assert error == f'{official.hf}: ' + message.replace(
        'got NaN', 'expected finite values, got NaN')


BUFFER = 'model.layers.1.self_attn.rotary_emb.inv_freq'


@pytest.mark.parametrize('value', [torch.tensor([1.0, 0.02]), torch.tensor([1.0]),
                                   torch.tensor([1.0, 0.02]).bfloat16()])
def test_custom_rotary_frequencies(official, fails, value):
    rewrite(official, **{BUFFER: value})
    message = fails(convert_glus, official.hf, official.out, sam2=official.yaml)
    assert f'expected {BUFFER} to be the rotary frequencies that config.json gives' in message


def test_rotary_frequencies_of_another_base(official):
    official.edit('hf/config.json', rope_theta=1e6)
    for name in official.tensors:
        if 'inv_freq' in name:
            official.tensors[name] = torch.tensor([1.0, 1e-3]).half()
    official.save()
    convert_glus(official.hf, official.out, sam2=official.yaml)
    model = init_model(official.out / 'config.py', official.out / 'model.pth')
    torch.testing.assert_close(model.mllm.llm.rotary_emb.inv_freq, torch.tensor([1.0, 1e-3]))


def test_tokenizer_without_seg(official, fails):
    (official.hf / 'added_tokens.json').write_text(json.dumps({'<im_start>': 480,
                                                               '<im_end>': 481}))
    message = fails(convert_glus, official.hf, official.out, sam2=official.yaml)
    assert "but ['[SEG]'] are missing" in message
    assert f'{official.hf}/added_tokens.json' in message


def test_fewer_rows_than_tokens(official, fails):
    official.edit('hf/config.json', vocab_size=480)
    message = fails(convert_glus, official.hf, official.out, sam2=official.yaml)
    assert message == (
        f'{official.hf}/config.json: expected a vocab_size of at least 483, which is how many '
        f'tokens the tokenizer in {official.hf} has, got 480')


def test_rows_and_vocab_size_differ(official, fails):
    official.edit('hf/config.json', vocab_size=500)
    message = fails(convert_glus, official.hf, official.out, sam2=official.yaml)
    assert '  lm_head.weight: expected (500, 16), got (483, 16)' in message


def test_sizes_that_make_no_model(official, fails):
    official.edit('hf/config.json', hidden_act='softmaxish')
    message = fails(convert_glus, official.hf, official.out, sam2=official.yaml)
    assert message.startswith(f'the sizes in {official.hf}/config.json')
    assert 'softmaxish' in message


@pytest.mark.parametrize(('text', 'message'), [
    ('model: [', 'expected a SAM-2 config, got a file that fails with'),
    ('- 1', "expected a SAM-2 config"), ('model: 3', 'expected a SAM-2 config'),
    ('other: 3', 'expected a SAM-2 config with the key "model"'),
    ('model: {_target_: sam2.modeling.sam2_base.SAM2Base}', 'expected model.image_size'),
    ('model: {_target_: sam2.no.Class, image_size: 1024}', 'building it fails with')])
def test_yaml_that_is_no_sam2(official, fails, text, message):
    Path(official.yaml).write_text(text)
    error = fails(convert_glus, official.hf, official.out, sam2=official.yaml)
    assert message in error
    assert official.yaml in error


def test_layer_that_the_tower_lacks(official, fails):
    official.edit('hf/config.json', mm_vision_select_layer=-9)
    message = fails(convert_glus, official.hf, official.out, sam2=official.yaml)
    assert 'vision_select_layer' in message
    assert '-9' in message


def test_pooling_that_the_patches_do_not_allow(official, fails):
    official.edit('clip/config.json', image_size=42)
    official.edit('clip/preprocessor_config.json', size=42, crop_size=42)
    message = fails(convert_glus, official.hf, official.out, sam2=official.yaml)
    assert "pooling='raster4' does not divide the patches" in message


@pytest.mark.parametrize('options', [
    dict(num_context=-1), dict(num_query=0), dict(memory_stride=0), dict(memory_stride=1.5)])
def test_numbers_out_of_range(official, fails, options):
    message = fails(convert_glus, official.hf, official.out, sam2=official.yaml, **options)
    assert 'must be an integer of at least' in message


def test_no_such_sam2(official, fails):
    for name in ('sam2_hiera_xl', 'no.yaml'):
        message = fails(convert_glus, official.hf, official.out, sam2=name, kind=FileNotFoundError)
        assert f'got {name!r}: there is no file' in message


def test_the_tower_in_the_checkpoint_is_used(official):
    held = {f'model.vision_tower.vision_tower.{name}': value + 1
            for name, value in official.tower.items()}
    rewrite(official, **held)
    convert_glus(official.hf, official.out, sam2=official.yaml)
    state = converted(official.out)
    name = next(name for name in state if name.endswith('pre_layrnorm.bias'))
    assert torch.equal(state[name], held['model.vision_tower.vision_tower.vision_model.'
                                         'pre_layrnorm.bias'])


def test_names_of_ours_in_an_official_checkpoint(official, fails):
    """They would otherwise take the place of the official weight."""
    rewrite(official, **{'mllm.llm.norm.weight': torch.zeros(16)})
    message = fails(convert_glus, official.hf, official.out, sam2=official.yaml)
    assert message == (f'{official.hf}/pytorch_model.bin: expected official names, got one of '
                       'glus_mm: mllm.llm.norm.weight')


def test_tower_names_follow_the_version_of_transformers():
    state = {'mllm.vision_tower.a': 1, 'mllm.lm_head.weight': 2}
    assert with_tower_names_of(['mllm.vision_tower.a'], state) == state
    assert with_tower_names_of(['mllm.vision_tower.vision_model.a'], state) == {
        'mllm.vision_tower.vision_model.a': 1, 'mllm.lm_head.weight': 2}


# The output folder


def test_output_folder_with_files(official):
    official.out.mkdir()
    convert_glus(official.hf, official.out, sam2=official.yaml)  # an empty one is all right
    before = (official.out / 'model.pth').stat().st_mtime_ns
    (official.out / 'notes.txt').write_text('mine')
    with pytest.raises(FileExistsError) as error:
        convert_glus(official.hf, official.out, sam2=official.yaml)
    assert str(error.value).startswith(f'expected a new or empty output folder, but {official.out}')
    assert str(error.value).endswith(f'--force replaces {", ".join(OUTPUTS)} in it')
    assert (official.out / 'model.pth').stat().st_mtime_ns == before


def test_force_replaces_all_files_of_an_earlier_conversion(official):
    convert_glus(official.hf, official.out, sam2=official.yaml)
    for name in ('special_tokens_map.json', 'notes.txt'):
        (official.out / name).write_text('{}')
    rewrite(official, **{NORM: torch.full((16, ), 7.0)})
    convert_glus(official.hf, official.out, sam2=official.yaml, force=True)
    assert {path.name for path in official.out.iterdir()} == FILES | {'notes.txt'}
    assert converted(official.out)['mllm.llm.norm.weight'].eq(7).all()


def test_a_failure_leaves_the_earlier_conversion(official):
    convert_glus(official.hf, official.out, sam2=official.yaml)
    before = {path.name: path.read_bytes() for path in official.out.iterdir()}
    rewrite(official, **{NORM: None})
    with pytest.raises(ValueError):
        convert_glus(official.hf, official.out, sam2=official.yaml, force=True)
    assert {path.name: path.read_bytes() for path in official.out.iterdir()} == before


def test_inputs_are_no_output(official):
    for folder in (official.hf, official.clip):
        with pytest.raises(ValueError, match='expected an output folder that is not an input'):
            convert_glus(official.hf, folder, sam2=official.yaml, force=True)
    with pytest.raises(NotADirectoryError, match='expected an output folder, got a file'):
        convert_glus(official.hf, official.yaml, sam2=official.yaml)
    with pytest.raises(NotADirectoryError, match='got a file at or above it'):
        convert_glus(official.hf, f'{official.yaml}/deep/out', sam2=official.yaml)


def test_parents_that_were_made_do_not_stay_either(official):
    rewrite(official, **{NORM: None})
    with pytest.raises(ValueError):
        convert_glus(official.hf, official.root / 'a' / 'b' / 'c', sam2=official.yaml)
    assert not (official.root / 'a').exists()


# LISA


def test_lisa_with_sam2(lisa, logged):
    convert_lisa(lisa.hf, lisa.out, sam2=lisa.yaml, sam2_checkpoint=str(lisa.root / 'sam2.pt'))
    assert {path.name for path in lisa.out.iterdir()} == FILES
    state = converted(lisa.out)
    stock = torch.load(lisa.root / 'sam2.pt', weights_only=True)['model']
    for name, value in stock.items():
        assert torch.equal(state[f'mask_head.sam2.{name}'], value), name
    assert torch.equal(state['mllm.llm.norm.weight'], lisa.tensors[NORM])
    assert state['mllm.seg_projector.0.weight'].shape == (16, 16)
    assert state['mllm.seg_projector.2.weight'].shape == (32, 16)
    assert state['mllm.seg_projector.2.weight'].abs().max() <= 16**-0.5
    assert f'{lisa.hf}: 4 weights of SAM-1 and of the projector to it were left out.' in logged
    assert "those of 'sam2.pt'; the projector of seg tokens is new (seed 0)." in (
        lisa.out / 'config.py').read_text()
    init_model(lisa.out / 'config.py', lisa.out / 'model.pth')


def test_the_new_projector_follows_the_seed(lisa):
    weights, before = [], torch.random.get_rng_state()
    for seed in (0, 1, 0):
        convert_lisa(lisa.hf, lisa.out, sam2=lisa.yaml, seed=seed, force=True,
                     sam2_checkpoint=str(lisa.root / 'sam2.pt'))
        weights.append(converted(lisa.out)['mllm.seg_projector.0.weight'])
    assert torch.equal(weights[0], weights[2])
    assert not torch.equal(weights[0], weights[1])
    assert torch.equal(torch.random.get_rng_state(), before)


def test_bf16_lisa_gets_a_float32_projector(lisa, write_weights):
    write_weights(lisa.hf, {k: v.bfloat16() for k, v in lisa.tensors.items()})
    convert_lisa(lisa.hf, lisa.out, sam2=lisa.yaml, sam2_checkpoint=str(lisa.root / 'sam2.pt'))
    state = converted(lisa.out)
    assert state['mllm.seg_projector.0.weight'].dtype == torch.float32
    assert state['mllm.llm.norm.weight'].dtype == torch.bfloat16


def test_lisa_without_any_sam1(lisa):
    """LLaVA whose tokenizer has [SEG] will do; there is nothing to discard."""
    rewrite(lisa, **{key: None for key in lisa.tensors if 'visual_model' in key or 'text_' in key})
    convert_lisa(lisa.hf, lisa.out, sam2=lisa.yaml, sam2_checkpoint=str(lisa.root / 'sam2.pt'))
    assert 'mask_head.sam2.no_mem_embed' in converted(lisa.out)


def test_glus_and_lisa_are_told_apart(official, fails, lisa):
    message = fails(convert_glus, lisa.hf, lisa.out, sam2=lisa.yaml)
    assert message.startswith('expected a checkpoint of GLUS, got LISAForCausalLM without SAM-2')
    assert 'lisa2mm.py' in message


def test_glus_is_no_lisa(official, fails):
    message = fails(convert_lisa, official.hf, official.out, sam2=official.yaml)
    assert 'got one that holds a trained SAM-2' in message
    assert 'glus2mm.py' in message


def test_sam2_weights_that_cannot_be_used(lisa, fails, local_hub):
    call = dict(sam2=lisa.yaml)
    message = fails(convert_lisa, lisa.hf, lisa.out, **call)
    assert message.startswith('expected --sam2-checkpoint, as there are published weights for')
    message = fails(convert_lisa, lisa.hf, lisa.out, kind=FileNotFoundError, **call,
                    sam2_checkpoint='no.pt')
    assert 'a file or folder with the weights of SAM-2, got nothing there: no.pt' in message
    torch.save({'state': {}}, lisa.root / 'sam2.pt')
    message = fails(convert_lisa, lisa.hf, lisa.out, **call,
                    sam2_checkpoint=str(lisa.root / 'sam2.pt'))
    assert "expected a dict with the key 'model'" in message
    message = fails(convert_lisa, lisa.hf, lisa.out, kind=ConnectionError)
    assert 'run "hf download facebook/sam2-hiera-large sam2_hiera_large.pt' in message
    assert message.endswith('--sam2-checkpoint DIR/sam2_hiera_large.pt.')


def test_sam2_from_the_hub(lisa, local_hub, fails):
    """The published file of the name; that it is too small here shows that it was read."""
    files = lisa.root / 'repo'
    files.mkdir()
    shutil.copyfile(lisa.root / 'sam2.pt', files / 'sam2.1_hiera_tiny.pt')
    local_hub.publish('facebook/sam2.1-hiera-tiny', files)
    message = fails(convert_lisa, lisa.hf, lisa.out, sam2='sam2.1_hiera_t')
    assert 'no_mem_embed: expected (1, 1, 256), got (1, 1, 32)' in message
