"""init_model: what it gives back, and what it refuses with which words."""

import pickle

import pytest
import torch
from mmengine import Config
from mmengine.registry import DefaultScope

from glus_mm.apis import init_model
from glus_mm.models import GLUS


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
    for (name, value), expected in zip(loaded.state_dict().items(), model.state_dict().values()):
        assert value.dtype == expected.dtype, name
        wanted = expected.to(torch.bfloat16) if expected.is_floating_point() else expected
        torch.testing.assert_close(value, wanted.to(expected.dtype), rtol=0, atol=0)


def test_older_file_format_loads_too(tiny_config, model, tmp_path):
    config, options = tiny_config
    torch.save(model.state_dict(), tmp_path / 'old.pth', _use_new_zipfile_serialization=False)
    loaded = init_model(config, str(tmp_path / 'old.pth'), cfg_options=options)
    torch.testing.assert_close(loaded.mllm.lm_head.weight, model.mllm.lm_head.weight)


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


def test_config_of_another_type_or_without_model():
    with pytest.raises(TypeError, match='path of a config or a mmengine Config, got dict'):
        init_model(dict(model=dict(type='GLUS')))
    with pytest.raises(ValueError, match=r'model = dict\(type=...\), got None'):
        init_model(Config(dict(mask_head=dict(type='SAM2MemoryHead'))))


def test_typos_in_options_name_the_key(tiny_config):
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


def test_objects_are_not_loaded(tiny_config, tmp_path):
    class Code:

        def __reduce__(self):
            return (open, (str(tmp_path / 'ran'), 'w'))

    config, options = tiny_config
    with open(tmp_path / 'code.pth', 'wb') as file:
        pickle.dump(dict(state_dict=Code()), file, protocol=2)
    with pytest.raises(ValueError, match='tensors and plain containers only.*code.pth'):
        init_model(config, tmp_path / 'code.pth', cfg_options=options)
    assert not (tmp_path / 'ran').exists()


def test_broken_file(tiny_config, checkpoint, tmp_path):
    config, options = tiny_config
    broken = tmp_path / 'broken.pth'
    for content in (checkpoint.read_bytes()[:1000], b''):
        broken.write_bytes(content)
        with pytest.raises(ValueError, match=r'expected a checkpoint.*broken\.pth'):
            init_model(config, broken, cfg_options=options)
