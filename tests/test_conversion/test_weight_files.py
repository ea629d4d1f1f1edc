"""Reading weights: every layout of Hugging Face, and nothing but tensors."""

import json
import os
import pickle

import pytest
import torch
from safetensors.torch import save_file

from glus_mm.utils.weight_files import own_storages, read_weight_file, read_weights

TENSORS = {f'layer.{i}.weight': torch.arange(6.0).view(2, 3) + i for i in range(5)}
INDEX = 'pytorch_model.bin.index.json'
SHARDS = ('pytorch_model-00001-of-00002.bin', 'pytorch_model-00002-of-00002.bin')


@pytest.fixture
def sharded(tmp_path, write_weights):
    """A folder with two shards of ``TENSORS``."""
    write_weights(tmp_path, TENSORS, shards=2)
    return tmp_path


def refused(folder, kind=ValueError):
    with pytest.raises(kind) as error:
        read_weights(folder)
    return str(error.value)


@pytest.mark.parametrize(('kind', 'shards'), [
    ('bin', 1), ('bin', 2), ('bin', 5), ('legacy', 1), ('legacy', 2), ('safetensors', 1),
    ('safetensors', 2)])
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_layouts(tmp_path, write_weights, kind, shards, dtype):
    tensors = {name: value.to(dtype) for name, value in TENSORS.items()}
    write_weights(tmp_path, tensors, kind, shards)
    weights = read_weights(tmp_path)
    assert list(weights.tensors) == list(TENSORS)
    assert len(set(weights.files.values())) == shards
    for name, value in tensors.items():
        assert weights.tensors[name].dtype == dtype
        assert torch.equal(weights.tensors[name], value)
        assert name in read_weight_file(weights.files[name])


def test_safetensors_go_before_bin(tmp_path, write_weights, logged):
    write_weights(tmp_path, TENSORS, 'safetensors')
    torch.save({'other': torch.zeros(1)}, tmp_path / 'pytorch_model.bin')
    assert set(read_weights(tmp_path).tensors) == set(TENSORS)
    assert logged == [f'{tmp_path}: model.safetensors is read, not pytorch_model.bin']


class Evil:
    """Its pickle would create a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path), )


@pytest.mark.parametrize('layout', ['zip', 'legacy', 'pickle', 'shard'])
def test_code_in_a_bin_is_not_run(tmp_path, layout):
    folder, trace = tmp_path / 'hf', tmp_path / 'trace'
    folder.mkdir()
    content = dict(TENSORS, evil=Evil(trace))
    path = folder / (SHARDS[0] if layout == 'shard' else 'pytorch_model.bin')
    if layout == 'pickle':
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=layout != 'legacy')
    if layout == 'shard':
        (folder / INDEX).write_text(json.dumps(dict(weight_map=dict.fromkeys(content, path.name))))
    message = refused(folder)
    assert f'other objects, or no checkpoint: {path}' in message
    assert 'objects are never loaded' in message
    assert not trace.exists()


@pytest.mark.parametrize(('content', 'got'), [
    ([torch.zeros(1)], 'got list'), ({}, 'got an empty file'),
    ({'a': torch.zeros(1), 'b': 3}, "got 'b': int"), ({1: torch.zeros(1)}, 'got 1: Tensor'),
    ({'a': torch.zeros(2, 2).to_sparse()}, 'got a torch.sparse_coo one on cpu: a')])
def test_other_things_than_named_tensors(tmp_path, content, got):
    torch.save(content, tmp_path / 'pytorch_model.bin')
    message = refused(tmp_path)
    assert str(tmp_path / 'pytorch_model.bin') in message
    assert got in message


@pytest.mark.parametrize('kind', ['bin', 'legacy', 'safetensors'])
@pytest.mark.parametrize('part', [0.0, 0.3, 0.9])
def test_truncated(tmp_path, write_weights, kind, part):
    write_weights(tmp_path, TENSORS, kind)
    path = next(tmp_path.glob('*model.*'))
    path.write_bytes(path.read_bytes()[:int(path.stat().st_size * part)])
    message = refused(tmp_path)
    assert str(path) in message
    assert 'complete' in message


def test_not_a_weight_file(tmp_path):
    path = tmp_path / 'pytorch_model.bin'
    path.write_text('weights')
    assert f'other objects, or no checkpoint: {path}' in refused(tmp_path)
    for name in ('pytorch_model.bin', 'model.safetensors'):
        path = tmp_path / name
        path.write_text('version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n')
        message = refused(tmp_path)
        assert message.startswith('expected weights, got a pointer of git lfs')
        assert message.endswith(str(path))


def test_no_weights(tmp_path, sharded):
    (sharded / INDEX).unlink()
    message = refused(sharded, FileNotFoundError)
    assert 'model.safetensors, model.safetensors.index.json, pytorch_model.bin' in message
    assert f"there are shards, but not their index: ['{SHARDS[0]}', '{SHARDS[1]}']" in message
    for name in SHARDS:
        (sharded / name).unlink()
    assert refused(sharded, FileNotFoundError).endswith('got none of them')


def test_index_and_shards(sharded):
    content = (sharded / SHARDS[1]).read_bytes()
    (sharded / SHARDS[1]).unlink()
    assert refused(sharded, FileNotFoundError) == (
        f'expected the shard {sharded / SHARDS[1]}, which {INDEX} names, but there is no such file')
    (sharded / SHARDS[1]).write_bytes(content)
    # It comes in the first shard, and the index promises it in the second.
    held = torch.load(sharded / SHARDS[0], weights_only=True)
    torch.save(held | {'layer.4.weight': torch.zeros(1)}, sharded / SHARDS[0])
    assert f'layer.4.weight (its place is {SHARDS[1]})' in refused(sharded)


@pytest.mark.parametrize(('change', 'message'), [
    (lambda held: held.pop('layer.3.weight'),
     f'promised by the index, missing in {SHARDS[1]} (1):\n  layer.3.weight'),
    (lambda held: held.update(new=torch.zeros(1)),
     f'in {SHARDS[1]}, unknown to the index (1):\n  new'),
    (lambda held: held.update({'layer.0.weight': torch.zeros(1)}),
     f'in {SHARDS[1]} and in another shard (1):\n  layer.0.weight (also in {SHARDS[0]})')])
def test_index_and_shard_differ(sharded, change, message):
    held = torch.load(sharded / SHARDS[1], weights_only=True)
    change(held)
    torch.save(held, sharded / SHARDS[1])
    error = refused(sharded)
    assert error.startswith(f'{sharded / INDEX} and {SHARDS[1]} do not agree')
    assert message in error


@pytest.mark.parametrize(('content', 'message'), [
    ('{', 'expected a JSON file'), ('[]', 'expected a JSON object, got list'),
    ('{"weight_map": {}}', 'expected {"weight_map": {name: shard}}'),
    ('{"weight_map": {"a": 1}}', 'expected {"weight_map": {name: shard}}'),
    ('{"weight_map": {"a": "../x.bin"}}', "got the paths ['../x.bin']")])
def test_bad_index(tmp_path, content, message):
    (tmp_path / INDEX).write_text(content)
    error = refused(tmp_path)
    assert message in error
    assert str(tmp_path / INDEX) in error


def test_entry_of_a_file(tmp_path):
    path = tmp_path / 'sam2.pt'
    torch.save(dict(model=TENSORS), path)
    assert set(read_weight_file(path, 'model')) == set(TENSORS)
    torch.save(TENSORS, path)
    with pytest.raises(ValueError, match=r"expected a dict with the key 'model' in .*sam2\.pt"):
        read_weight_file(path, 'model')


def test_what_is_held(tmp_path, write_weights):
    large = torch.zeros(1000, 1000)
    views = dict(row=large[3], column=large[:, 3], all=large, again=large)
    path = tmp_path / 'out.pth'
    torch.save(own_storages(views), path)
    assert path.stat().st_size < 8.1e6
    loaded = torch.load(path, weights_only=True)
    assert {name: value.shape for name, value in loaded.items()} == {
        name: value.shape for name, value in views.items()}
    save_file({'a': torch.zeros(1)}, tmp_path / 'other.safetensors')  # not a known name
    torch.save({'a': torch.nn.Parameter(torch.ones(1))}, tmp_path / 'pytorch_model.bin')
    value = read_weights(tmp_path).tensors['a']
    assert type(value) is torch.Tensor
    assert not value.requires_grad
    for kind in ('bin', 'safetensors'):
        write_weights(tmp_path, TENSORS, kind)
        tensors = read_weights(tmp_path).tensors
        kept = own_storages(tensors)
        assert all(kept[name].data_ptr() == tensors[name].data_ptr() for name in tensors), kind
