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
from programs import ROOT

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


def test_config_is_that_of_the_repository(official):
    """Data set, metric and runtime, which are written out as the repository may not be there."""
    convert_glus(official.hf, official.out, sam2=official.yaml)
    ours = Config.fromfile(official.out / 'config.py')
    theirs = Config.fromfile(ROOT / 'configs' / 'glus' / 'glus_lisa-7b_sam2-l.py')
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


BUFFER = 'model.layers.1.self_attn.rotary_emb.inv_freq'
TRUNK = 'model.visual_model.image_encoder.trunk.'
NAN, NOT_FINITE = float('nan'), '{hf}: expected finite values, got NaN or infinity in ' + NORM


def weights(**values):
    return lambda official: rewrite(official, **values)


def config(**values):
    return lambda official: official.edit('hf/config.json', **values)


def yaml(text):
    return lambda official: Path(official.yaml).write_text(text)


REFUSED = [
    (weights(**{NORM: None}), '{hf}: the weights do not fill the model',
     f'missing, with the expected shape (1):\n  {NORM}: (16,)'),
    (weights(**{'model.new.weight': torch.zeros(3)}),
     'unknown, with the shape found (1):\n  model.new.weight: (3,)'),
    (weights(**{NORM: torch.zeros(17)}), f'other shape (1):\n  {NORM}: expected (16,), got (17,)'),
    (weights(**{'model.mm_projector.weight': None,
                'model.mm_projector.0.weight': torch.zeros(16, 8)}),
     'The projector has several layers, as in LLaVA 1.5; LLaVA v1, LISA and GLUS have one linear '
     'layer.', '\n  model.mm_projector.weight: (16, 8)',
     '\n  model.mm_projector.0.weight: (16, 8)'),
    (weights(**{'model.visual_model.no_mem_embed': None}),
     '\n  model.visual_model.no_mem_embed: (1, 1, 32)'),
    # A trunk as sam2_hiera_s has it, in a checkpoint whose other parts are small.
    (weights(**{f'{TRUNK}blocks.{i}.norm1.weight': torch.zeros(8) for i in range(16)},
             **{f'{TRUNK}patch_embed.proj.weight': torch.zeros(96, 3, 7, 7)}),
     'The SAM-2 of the checkpoint has the sizes of --sam2 sam2_hiera_s.'),
    (lambda official: (official.tower.pop('vision_model.pre_layrnorm.bias'), official.save()),
     'vision_model.pre_layrnorm.bias (vision tower): (8,)',
     'Give a folder whose config.json and weights agree with --clip.'),
    *[(weights(**{NORM: torch.tensor([0.0] * 15 + [value])}), NOT_FINITE)
      for value in (NAN, float('-inf'))],
    (weights(**{NORM: torch.full((16, ), NAN, dtype=torch.bfloat16)}), NOT_FINITE),
    (weights(**{NORM: torch.zeros(16, dtype=torch.int8)}),
     f'{{hf}}: expected float32, float16 or bfloat16, got torch.int8: {NORM}'),
    *[(weights(**{BUFFER: value}),
       f'expected {BUFFER} to be the rotary frequencies that config.json gives')
      for value in (torch.tensor([1.0, 0.02]), torch.tensor([1.0]),
                    torch.tensor([1.0, 0.02]).bfloat16())],
    # It would otherwise take the place of the official weight.
    (weights(**{'mllm.llm.norm.weight': torch.zeros(16)}), '{hf}/pytorch_model.bin: expected '
     'official names, got one of glus_mm: mllm.llm.norm.weight'),
    (lambda official: (official.hf / 'added_tokens.json').write_text(
        json.dumps({'<im_start>': 480, '<im_end>': 481})),
     "but ['[SEG]'] are missing", '{hf}/added_tokens.json'),
    (config(vocab_size=480), '{hf}/config.json: expected a vocab_size of at least 483, which is '
     'how many tokens the tokenizer in {hf} has, got 480'),
    (config(vocab_size=500), '\n  lm_head.weight: expected (500, 16), got (483, 16)'),
    (config(hidden_act='softmaxish'), 'the sizes in {hf}/config.json', 'softmaxish'),
    (config(mm_vision_select_layer=-9), 'vision_select_layer', '-9'),
    (lambda official: (official.edit('clip/config.json', image_size=42), official.edit(
        'clip/preprocessor_config.json', size=42, crop_size=42)),
     "pooling='raster4' does not divide the patches"),
    *[(yaml(text), '{yaml}', message) for text, message in (
        ('model: [', 'expected a SAM-2 config, got a file that fails with'),
        ('- 1', 'expected a SAM-2 config'), ('model: 3', 'expected a SAM-2 config'),
        ('other: 3', 'expected a SAM-2 config with the key "model"'),
        ('model: {_target_: sam2.modeling.sam2_base.SAM2Base}', 'expected model.image_size'),
        ('model: {_target_: sam2.no.Class, image_size: 1024}', 'building it fails with'))],
]


@pytest.mark.parametrize('case', REFUSED)
def test_what_is_refused(official, fails, case):
    spoil, *parts = case
    spoil(official)
    message = fails(convert_glus, official.hf, official.out, sam2=official.yaml)
    for part in parts:
        part = part.replace('{hf}', str(official.hf)).replace('{yaml}', official.yaml)
        assert part in message, message


def test_rotary_frequencies_of_another_base(official):
    official.edit('hf/config.json', rope_theta=1e6)
    for name in official.tensors:
        if 'inv_freq' in name:
            official.tensors[name] = torch.tensor([1.0, 1e-3]).half()
    official.save()
    convert_glus(official.hf, official.out, sam2=official.yaml)
    model = init_model(official.out / 'config.py', official.out / 'model.pth')
    torch.testing.assert_close(model.mllm.llm.rotary_emb.inv_freq, torch.tensor([1.0, 1e-3]))


def test_arguments_that_cannot_be_used(official, fails):
    for options in (dict(num_context=-1), dict(num_query=0), dict(memory_stride=0),
                    dict(memory_stride=1.5)):
        message = fails(convert_glus, official.hf, official.out, sam2=official.yaml, **options)
        assert 'must be an integer of at least' in message
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


def test_force_replaces_an_earlier_conversion(official):
    convert_glus(official.hf, official.out, sam2=official.yaml)
    for name in ('special_tokens_map.json', 'notes.txt'):
        (official.out / name).write_text('{}')
    rewrite(official, **{NORM: torch.full((16, ), 7.0)})
    convert_glus(official.hf, official.out, sam2=official.yaml, force=True)
    assert {path.name for path in official.out.iterdir()} == FILES | {'notes.txt'}
    assert converted(official.out)['mllm.llm.norm.weight'].eq(7).all()
    before = {path.name: path.read_bytes() for path in official.out.iterdir()}
    rewrite(official, **{NORM: None})
    for out in (official.out, official.root / 'a' / 'b' / 'c'):
        with pytest.raises(ValueError):
            convert_glus(official.hf, out, sam2=official.yaml, force=True)
    assert {path.name: path.read_bytes() for path in official.out.iterdir()} == before
    assert not (official.root / 'a').exists(), 'parents that were made do not stay either'


def test_inputs_are_no_output(official):
    for folder in (official.hf, official.clip):
        with pytest.raises(ValueError, match='expected an output folder that is not an input'):
            convert_glus(official.hf, folder, sam2=official.yaml, force=True)
    with pytest.raises(NotADirectoryError, match='expected an output folder, got a file'):
        convert_glus(official.hf, official.yaml, sam2=official.yaml)
    with pytest.raises(NotADirectoryError, match='got a file at or above it'):
        convert_glus(official.hf, f'{official.yaml}/deep/out', sam2=official.yaml)


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


def test_the_new_projector_follows_the_seed(lisa, write_weights):
    """It is float32, whatever the checkpoint is."""
    write_weights(lisa.hf, {k: v.bfloat16() for k, v in lisa.tensors.items()})
    weights, before = [], torch.random.get_rng_state()
    for seed in (0, 1, 0):
        convert_lisa(lisa.hf, lisa.out, sam2=lisa.yaml, seed=seed, force=True,
                     sam2_checkpoint=str(lisa.root / 'sam2.pt'))
        state = converted(lisa.out)
        weights.append(state['mllm.seg_projector.0.weight'])
    assert weights[0].dtype == torch.float32
    assert state['mllm.llm.norm.weight'].dtype == torch.bfloat16
    assert torch.equal(weights[0], weights[2])
    assert not torch.equal(weights[0], weights[1])
    assert torch.equal(torch.random.get_rng_state(), before)


def test_lisa_without_any_sam1(lisa):
    """LLaVA whose tokenizer has [SEG] will do; there is nothing to discard."""
    rewrite(lisa, **{key: None for key in lisa.tensors if 'visual_model' in key or 'text_' in key})
    convert_lisa(lisa.hf, lisa.out, sam2=lisa.yaml, sam2_checkpoint=str(lisa.root / 'sam2.pt'))
    assert 'mask_head.sam2.no_mem_embed' in converted(lisa.out)


def test_glus_and_lisa_are_told_apart(official, fails, request):
    message = fails(convert_lisa, official.hf, official.out, sam2=official.yaml)
    assert 'got one that holds a trained SAM-2' in message and 'glus2mm.py' in message
    lisa = request.getfixturevalue('lisa')
    message = fails(convert_glus, lisa.hf, lisa.out, sam2=lisa.yaml)
    assert message.startswith('expected a checkpoint of GLUS, got LISAForCausalLM without SAM-2')
    assert 'lisa2mm.py' in message


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
