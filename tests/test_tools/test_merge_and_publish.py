"""merge_lora.py and publish_model.py: checkpoints of a training become complete, plain weights."""

import pytest
import torch

from glus_mm.apis import init_model
from glus_mm.utils.base_weights import base_entry, digests
from programs import ROOT

CONFIG = '''
_base_ = ['{root}/configs/_base_/models/glus_tiny.py']
model = dict(
    mllm=dict(
        llm=dict(hidden_size=32, num_hidden_layers=1, intermediate_size=32),
        vision_tower=dict(hidden_size=16, num_hidden_layers=1, intermediate_size=32),
        lora=dict(r=2, alpha=6, dropout=0.5)),
    mask_head=dict(sam2=dict(d_model=32), image_size=64))
load_from = '{base}'
'''
PLAIN = {'model.mllm.lora': None}
LAYER = 'mllm.llm.layers.0.self_attn.v_proj'


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """A folder with a base, a config, a checkpoint that leaves out the base's frozen weights."""
    folder = tmp_path_factory.mktemp('merge')
    (folder / 'config.py').write_text(CONFIG.format(root=ROOT, base=folder / 'base.pth'))
    torch.manual_seed(0)
    options = dict(PLAIN, load_from=None)
    base = init_model(folder / 'config.py', cfg_options=options).state_dict()
    torch.save({'state_dict': base}, folder / 'base.pth')
    model = init_model(folder / 'config.py', folder / 'base.pth')
    for name, value in model.named_parameters():
        if 'lora_' in name or name.startswith('mllm.projector'):
            torch.nn.init.normal_(value, std=0.3)
    state = model.state_dict()
    frozen = [name for name, value in model.named_parameters() if not value.requires_grad]
    keys = {name: name.replace('.base_layer.', '.') for name in frozen}
    assert len(frozen) == 11 and all(torch.equal(state[n], base[keys[n]]) for n in frozen)
    entry = base_entry(folder / 'base.pth', folder, keys, digests({n: state[n] for n in frozen}))
    part = {name: value for name, value in state.items() if name not in frozen}
    torch.save(dict(state_dict=part, base=entry, optimizer={}), folder / 'iter_9.pth')
    return folder, model


@pytest.fixture
def call(call_tool):
    """Run a tool; return what it says if it refuses, else None."""

    def run(name, *args):
        status, out, error = call_tool(ROOT / 'tools' / 'misc' / f'{name}.py', *args)
        assert status == 2 or status == 0 and 'wrote' in out
        return error if status else None

    return run


def test_the_base_is_found(trained, tmp_path):
    folder, model = trained
    loaded = init_model(folder / 'config.py', folder / 'iter_9.pth').state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in model.state_dict().items())
    folder, model = trained
    checkpoint = torch.load(folder / 'iter_9.pth', weights_only=True)
    checkpoint['base'].update(path='/gone/base.pth', relative='gone.pth')
    torch.save(checkpoint, tmp_path / 'moved.pth')
    loaded = init_model(folder / 'config.py', tmp_path / 'moved.pth').state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in model.state_dict().items())
    for load_from in (None, 'nowhere.pth', str(tmp_path / 'moved.pth')):
        with pytest.raises(FileNotFoundError, match='expected the file /gone/base.pth'):
            init_model(folder / 'config.py', tmp_path / 'moved.pth',
                       cfg_options=dict(load_from=load_from))


def test_merged_weights_compute_the_same(trained, tmp_path, call):
    folder, model = trained
    assert call('merge_lora', folder / 'config.py', folder / 'iter_9.pth',
                tmp_path / 'out.pth') is None
    merged = torch.load(tmp_path / 'out.pth', weights_only=True)
    assert set(merged) == {'state_dict'} and not any('lora_' in k for k in merged['state_dict'])
    plain = init_model(folder / 'config.py', tmp_path / 'out.pth', cfg_options=PLAIN)
    inputs = torch.randn(5, 32)
    ours, theirs = (m.get_submodule(LAYER)(inputs) for m in (plain, model))
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    state = model.state_dict()
    update = 3 * state[f'{LAYER}.lora_B.default.weight'] @ state[f'{LAYER}.lora_A.default.weight']
    torch.testing.assert_close(merged['state_dict'][f'{LAYER}.weight'],
                               state[f'{LAYER}.base_layer.weight'] + update)
    # The config of the training takes them too, and changes nothing.
    again = init_model(folder / 'config.py', tmp_path / 'out.pth')
    torch.testing.assert_close(again.get_submodule(LAYER)(inputs), ours)


def test_published_in_half_precision_and_whole(trained, tmp_path, call):
    folder, _ = trained
    assert call('publish_model', folder / 'iter_9.pth', tmp_path / 'out.pth', '--dtype', 'bf16',
                '--config', folder / 'config.py') is None
    state = torch.load(tmp_path / 'out.pth', weights_only=True)['state_dict']
    plain = init_model(folder / 'config.py', cfg_options=PLAIN).state_dict()
    assert state.keys() == plain.keys()
    assert {value.dtype for value in state.values() if value.is_floating_point()} == {
        torch.bfloat16}
    assert [path.name for path in tmp_path.iterdir()] == ['out.pth']
    folder, _ = trained
    assert call('publish_model', folder / 'base.pth', tmp_path / 'out.pth', '--dtype',
                'keep') is None
    base = torch.load(folder / 'base.pth', weights_only=True)['state_dict']
    state = torch.load(tmp_path / 'out.pth', weights_only=True)['state_dict']
    assert all(torch.equal(state[name], value) for name, value in base.items())
    call('publish_model', folder / 'base.pth', tmp_path / 'out.pth')
    state = torch.load(tmp_path / 'out.pth', weights_only=True)['state_dict']
    assert state[f'{LAYER}.weight'].dtype == torch.float16, 'the default'


def test_what_cannot_be_published(trained, tmp_path, call):
    folder, _ = trained
    message = call('publish_model', folder / 'iter_9.pth', tmp_path / 'out.pth')
    assert 'expected weights without LoRA adapters' in message and '--config CONFIG' in message
    checkpoint = torch.load(folder / 'iter_9.pth', weights_only=True)
    checkpoint['base'].update(path='/gone/base.pth', relative='gone.pth')
    torch.save(checkpoint, tmp_path / 'moved.pth')
    assert 'expected the file /gone/base.pth, got nothing there' in call(
        'publish_model', tmp_path / 'moved.pth', tmp_path / 'out.pth')
    checkpoint = torch.load(folder / 'base.pth', weights_only=True)
    torch.save({'state_dict': {'w': torch.tensor([1e5])}}, tmp_path / 'large.pth')
    assert 'w is not in torch.float16' in call(
        'publish_model', tmp_path / 'large.pth', tmp_path / 'out.pth')
    checkpoint['state_dict'][f'{LAYER}.weight'] = torch.zeros(3, 3)
    torch.save(checkpoint, tmp_path / 'other.pth')
    assert f'{LAYER}.base_layer.weight: expected (32, 32), got (3, 3)' in call(
        'merge_lora', folder / 'config.py', tmp_path / 'other.pth', tmp_path / 'out.pth')
    assert not (tmp_path / 'out.pth').exists()
