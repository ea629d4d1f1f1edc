"""init_model: what it gives back, and what it refuses with which words."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from mmengine import Config
from mmengine.registry import DefaultScope

from glus_mm.apis import GLUSInferencer, init_model
from glus_mm.models import GLUS
from programs import ROOT


@pytest.fixture
def checkpoint(model, tmp_path):
    """Weights stored as bf16 below ``state_dict``, with a prefix of a parallel wrapper."""
    path = tmp_path / 'model.pth'
    state = {f'module.{key}': value.to(torch.bfloat16) if value.is_floating_point() else value
             for key, value in model.state_dict().items()}
    torch.save(dict(state_dict=state, meta=dict(iter=3)), path)
    return path


def test_built_from_path_and_from_config(tiny_config, model):
    path, options = tiny_config
    assert isinstance(model, GLUS)
    assert not model.training
    assert model.cfg.model.test_cfg.window == options['model.test_cfg.window']
    cfg = Config.fromfile(path)
    again = init_model(cfg, cfg_options=options)
    assert again.test_cfg.window == 3
    assert cfg.model.test_cfg.window == 4, 'the config of the caller must not change'


def test_half_precision_weights_become_float32(tiny_config, model, checkpoint):
    config, options = tiny_config
    loaded = init_model(config, checkpoint, 'cpu', options)
    expected = model.mllm.lm_head.weight
    assert torch.equal(loaded.mllm.lm_head.weight, expected.bfloat16().float())
    torch.save(model.state_dict(), checkpoint, _use_new_zipfile_serialization=False)
    loaded = init_model(config, str(checkpoint), cfg_options=options)  # of an older torch
    torch.testing.assert_close(loaded.mllm.lm_head.weight, model.mllm.lm_head.weight)
    optimizer = torch.optim.SGD(loaded.parameters(), lr=1.0)
    before = loaded.mllm.seg_projector[0].weight.clone()
    loaded.mllm.seg_projector(torch.ones(1, before.shape[1])).sum().backward()
    optimizer.step()
    assert not torch.equal(loaded.mllm.seg_projector[0].weight, before), 'it can be trained'


def test_scope_of_the_caller_stays(tiny_config):
    config, options = tiny_config
    DefaultScope._instance_dict.clear()
    init_model(config, cfg_options=options)
    assert DefaultScope.get_current_instance() is None
    DefaultScope.get_instance('api_test', scope_name='mmengine')
    try:
        assert isinstance(init_model(config, cfg_options=options), GLUS)
        assert DefaultScope.get_current_instance().scope_name == 'mmengine'
    finally:
        DefaultScope._instance_dict.clear()


@pytest.mark.parametrize('missing', ['config', 'checkpoint'])
def test_missing_files(tiny_config, missing, tmp_path):
    files = dict(config=tiny_config[0], checkpoint=None)
    files[missing] = tmp_path / 'glus_lisa-7b'
    with pytest.raises(FileNotFoundError,
                       match=f'a {missing} file, got nothing there: .*glus_lisa-7b'):
        init_model(**files)
    files[missing] = tmp_path
    with pytest.raises(FileNotFoundError, match=f'a {missing} file, got a folder'):
        init_model(**files)


def test_configs_and_options_that_cannot_be_used(tiny_config):
    with pytest.raises(TypeError, match='path of a config or a mmengine Config, got dict'):
        init_model(dict(model=dict(type='GLUS')))
    with pytest.raises(ValueError, match=r'model = dict\(type=...\), got None'):
        init_model(Config(dict(mask_head=dict(type='SAM2MemoryHead'))))
    config, options = tiny_config
    with pytest.raises(KeyError, match="'modle.test_cfg.window'.*has no 'modle'"):
        init_model(config, cfg_options={'modle.test_cfg.window': 1})
    with pytest.raises(TypeError, match='windw'):
        init_model(config, cfg_options={**options, 'model.test_cfg.windw': 1})


@pytest.mark.parametrize('device', ['cuda:99', 'gpu', 3.5])
def test_device_that_cannot_be_used(tiny_config, device):
    with pytest.raises(ValueError, match=rf"can be used here \(cpu.*\), got '{device}': .+"):
        init_model(tiny_config[0], device=device)


def test_misfits_list_the_keys(tiny_config, model, tmp_path):
    config, options = tiny_config
    state = model.state_dict()
    state['unknown.weight'] = torch.zeros(2)
    del state['mllm.projector.bias']
    state['mllm.projector.weight'] = state['mllm.projector.weight'][:2]
    torch.save(dict(state_dict=state), tmp_path / 'misfit.pth')
    with pytest.raises(ValueError, match='does not fit the model GLUS: .*misfit.pth') as error:
        init_model(config, tmp_path / 'misfit.pth', cfg_options=options)
    lines = str(error.value).splitlines()
    assert '  mllm.projector.bias' in lines
    assert '  unknown.weight' in lines
    assert '  mllm.projector.weight: expected (128, 128), got (2, 128)' in lines


def ordinary(tiny_config, path, options=None):
    """The model as MMEngine's Runner makes it: built with random weights, which are copied over."""
    config, smaller = tiny_config
    torch.manual_seed(5)
    model = init_model(config, cfg_options={**smaller, **(options or {})})
    state = torch.load(path, weights_only=True)['state_dict']
    model.load_state_dict({key.removeprefix('module.'): value for key, value in state.items()})
    return model


def outputs(model, frames):
    out = GLUSInferencer(model)(frames[:3], ['the red box'], return_logits=True)
    assert out['is_seg'].all()
    return np.stack(out['low_res_logits'][0]), np.stack(out['seg_tokens'][0])


@pytest.mark.parametrize('options', [
    {}, {'model.dtype': 'bfloat16', 'model.mllm.trainable': [], 'model.mask_head.trainable': []},
    {'model.dtype': 'bfloat16', 'model.mask_head.trainable': ['sam2.sam_mask_decoder.*'],
     'model.mllm.trainable': ['lm_head.*']}])
@pytest.mark.parametrize('stored', [torch.float32, torch.bfloat16])
def test_filled_equals_the_ordinary_build(tiny_config, model, frames, tmp_path, options, stored):
    """Parameters, buffers, flags, and outputs to the last bit; nothing is left without data."""
    config, smaller = tiny_config
    state = {key: value.to(stored) for key, value in model.state_dict().items()}
    torch.save(dict(state_dict=state), tmp_path / 'model.pth')
    filled = init_model(config, tmp_path / 'model.pth', cfg_options={**smaller, **options})
    expected = ordinary(tiny_config, tmp_path / 'model.pth', options)
    for kind in ('named_parameters', 'named_buffers'):
        ours, theirs = dict(getattr(filled, kind)()), dict(getattr(expected, kind)())
        assert ours.keys() == theirs.keys()
        for name, value in ours.items():
            assert value.dtype == theirs[name].dtype and not value.is_meta, name
            assert value.requires_grad == theirs[name].requires_grad, name
            assert value.stride() == theirs[name].stride() and torch.equal(value, theirs[name])
    for ours, theirs in zip(outputs(filled, frames), outputs(expected, frames)):
        assert np.array_equal(ours, theirs)


@pytest.mark.parametrize('stored', [torch.float32, torch.bfloat16])
def test_model_and_file_are_independent(tiny_config, model, tmp_path, stored):
    """Training changes the model only, and whoever overwrites the file changes the file only."""
    config, options = tiny_config
    path = tmp_path / 'model.pth'
    state = {key: value.to(stored) for key, value in model.state_dict().items()}
    torch.save(dict(state_dict=state), path)
    before = path.read_bytes()
    loaded = init_model(config, path, cfg_options=options)
    with torch.no_grad():
        for parameter in loaded.parameters():
            parameter.add_(1)
    assert path.read_bytes() == before
    values = {key: value.clone() for key, value in loaded.state_dict().items()}
    with open(path, 'r+b') as file:
        file.write(b'\xff' * len(before))
    assert all(torch.equal(value, values[key]) for key, value in loaded.state_dict().items())
    with open(path, 'r+b') as file:
        file.truncate(0)
    torch.save(loaded.state_dict(), path)
    assert torch.load(path, weights_only=True).keys() == values.keys()


LORA = {'model.mllm.lora': dict(r=2)}


@pytest.mark.parametrize('stored', [torch.float32, torch.bfloat16])
def test_lora_model_takes_weights_without_adapters(tiny_config, model, frames, tmp_path, stored):
    config, options = tiny_config
    state = {key: value.to(stored) for key, value in model.state_dict().items()}
    torch.save(dict(state_dict=state), tmp_path / 'model.pth')
    loaded = init_model(config, tmp_path / 'model.pth', cfg_options={**options, **LORA})
    adapters = {n: p for n, p in loaded.named_parameters() if 'lora_' in n}
    assert len(adapters) == 4, 'one layer, q and v, A and B'
    for name, value in adapters.items():
        assert value.requires_grad and value.isfinite().all()
        # As nn.Linear starts: evenly within the bound.
        bound = value.shape[1]**-0.5
        assert value.any() == ('lora_A' in name) and value.abs().max() <= bound
        assert 'lora_B' in name or value.std().item() == pytest.approx(bound / 3**0.5, rel=0.2)
    plain = init_model(config, tmp_path / 'model.pth', cfg_options=options)
    for ours, theirs in zip(outputs(loaded, frames), outputs(plain, frames)):
        assert np.array_equal(ours, theirs), 'B = 0: the same function'


@pytest.mark.slow
def test_a_large_checkpoint_is_in_memory_once(tmp_path):
    """Peak memory of a process that loads 210 MB: its weights, and no copy or random start."""
    config = str(ROOT / 'configs' / '_base_' / 'models' / 'glus_tiny.py')
    options = {'model.dtype': 'bfloat16', 'model.mllm.trainable': [],
               'model.mask_head.trainable': [],
               'model.mllm.llm': dict(hidden_size=1024, num_hidden_layers=8,
                                      num_attention_heads=8, intermediate_size=2816)}
    model = init_model(config, cfg_options=options)
    torch.save(model.state_dict(), tmp_path / 'large.pth')
    code = f'''
import resource
from glus_mm.apis import init_model
init_model({config!r}, cfg_options={{'model.mllm.llm.num_hidden_layers': 1}})
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
model = init_model({config!r}, {str(tmp_path / 'large.pth')!r}, cfg_options={options!r})
print(1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before))
'''
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    size = sum(p.nbytes for p in model.parameters())
    assert size > 2e8 and int(done.stdout.split()[-1]) < 1.2 * size
