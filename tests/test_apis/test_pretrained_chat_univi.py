"""Chat-UniVi by its name on the hub, and without a network."""

import json
import shutil

import pytest
import torch
from mmengine import Config

from glus_mm.apis import init_model, resolve_checkpoint
from glus_mm.apis.pretrained import resolve_for
from glus_mm.models import KeyFrameSelector
from programs import ROOT

OFFICIAL = ROOT / 'tests' / 'data' / 'official_glus_tiny'


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache for conversions."""
    monkeypatch.setenv('GLUS_MM_CACHE', str(tmp_path / 'cache'))
    return tmp_path / 'cache'


@pytest.fixture
def folder(tmp_path):
    """The tiny official checkpoint as a Chat-UniVi: no SAM-2, its vision tower beside it."""
    folder = tmp_path / 'univi'
    shutil.copytree(OFFICIAL / 'checkpoint', folder, ignore=shutil.ignore_patterns('*.bin*'))
    values = json.loads((folder / 'config.json').read_text())
    tower = json.loads((OFFICIAL / 'clip' / 'config.json').read_text())
    patches = (tower['image_size'] // tower['patch_size'])**2
    rates = {f'spatial_cluster_rate{i}': max(2, patches // 2**(i + 1)) for i in range(3)}
    (folder / 'config.json').write_text(json.dumps(dict(
        values, model_type='ChatUniVi', architectures=['ChatUniViLlamaForCausalLM'],
        config=dict(rates, use_cluster=True, temporal_cluster_rate=1 / 16))))
    state = {}
    for file in (OFFICIAL / 'checkpoint').glob('*.bin'):
        state |= torch.load(file, weights_only=True)
    torch.save({name: value.clone() for name, value in state.items()
                if not name.startswith(('model.visual_model.', 'model.text_hidden_fcs.'))},
               folder / 'pytorch_model.bin')
    return folder


def test_from_the_hub(local_hub, cache, folder):
    local_hub.publish('org/Chat-UniVi-tiny', folder, 'b' * 40)
    clip = str(OFFICIAL / 'clip')
    file = resolve_checkpoint('org/Chat-UniVi-tiny', clip=clip)
    assert isinstance(init_model(file.parent / 'config.py', file), KeyFrameSelector)
    with pytest.warns(DeprecationWarning, match='selector is not needed'):
        assert resolve_checkpoint('org/Chat-UniVi-tiny', clip=clip, selector='qa') == file


def test_no_network(local_hub, cache):
    cfg = Config(dict(model=dict(type='KeyFrameSelector')))
    with pytest.raises(ConnectionError) as error:
        resolve_for(cfg, 'Chat-UniVi/Chat-UniVi')
    message = str(error.value)
    assert 'https://huggingface.co/Chat-UniVi/Chat-UniVi could not be reached' in message
    assert 'hf download Chat-UniVi/Chat-UniVi --local-dir Chat-UniVi' in message
    assert 'tools/model_converters/chatunivi2mm.py Chat-UniVi OUT_DIR' in message


def test_a_folder_in_the_official_layout_names_the_command(folder):
    with pytest.raises(ValueError, match='convert it first') as error:
        resolve_checkpoint(folder)
    assert str(error.value).splitlines()[-1].split() == [
        'python', 'tools/model_converters/chatunivi2mm.py', str(folder), 'univi-mm']
