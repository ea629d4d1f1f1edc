"""Models by name: metafiles that are whole, the package's files, and what a wrong name is told."""

from pathlib import Path

import pytest
import torch
import yaml

from glus_mm.apis import init_model
from glus_mm.utils.hub import is_hub_name
from glus_mm.utils.model_zoo import find_model, list_models
from glus_mm.utils.resources import find_resource, resource_root
from programs import ROOT

METAFILES = sorted((ROOT / 'configs').rglob('metafile.yml'))


def test_index_and_names():
    index = yaml.safe_load((ROOT / 'model-index.yml').read_text())
    assert sorted(ROOT / path for path in index['Import']) == METAFILES
    assert resource_root() == ROOT
    entries = list_models()
    names = [name for entry in entries for name in (entry.name, *entry.aliases)]
    assert len(names) == len(set(names))
    for entry in entries:
        assert entry.config.is_file()
        assert entry.weights is None or Path(entry.weights).is_file() or is_hub_name(entry.weights)


@pytest.mark.parametrize('path', METAFILES, ids=lambda path: path.parent.name)
def test_metafiles_are_whole(path):
    content = yaml.safe_load(path.read_text())
    collections = {entry['Name'] for entry in content['Collections']}
    for entry in content['Collections']:
        assert (ROOT / entry['README']).is_file()
    for model in content['Models']:
        assert model['In Collection'] in collections
        assert (ROOT / model['Config']).is_file(), model['Name']
        training = model['Metadata'].get('Training Config')
        assert training is None or (ROOT / training).is_file()
        for result in model.get('Results', ()):
            assert {'Task', 'Dataset', 'Metrics'} <= set(result)
            assert all(0 < value < 100 for value in result['Metrics'].values())
            assert model['Metadata']['Results From'], 'who measured it?'


def test_shipped_files(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    model = init_model('glus_tiny_moving-shapes')
    stored = torch.load(ROOT / 'checkpoints' / 'glus_tiny_moving-shapes.pth', weights_only=True)
    weight = stored.get('state_dict', stored)['mllm.lm_head.weight']
    torch.testing.assert_close(model.mllm.lm_head.weight, weight.float(), rtol=0, atol=0)
    assert find_model('tiny').name == 'glus_tiny_moving-shapes'
    monkeypatch.chdir(tmp_path)
    config = 'configs/glus/glus_tiny_moving-shapes.py'
    assert find_resource(config) == ROOT / config
    (tmp_path / 'configs' / 'glus').mkdir(parents=True)
    (tmp_path / config).write_text('mine')
    assert find_resource(config) == Path(config), "the user's own file comes first"
    assert find_resource('no/such.py') == Path('no/such.py')


def test_wrong_names(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="did you mean 'glus-s'"):
        init_model('glus-ss')
    with pytest.raises(ValueError, match='with published weights.*checkpoint='):
        init_model('glus_tiny_stills_moving-shapes')
    with pytest.raises(FileNotFoundError, match='expected a config file'):
        init_model('configs/no_such.py')
    assert find_model('glus_tiny_moving-shapes_val').weights is None
