"""The converters as commands: what they write, and what they say to a wrong call."""

import json
import shutil

import pytest
import torch

from glus_mm.apis import init_model
from glus_mm.utils.weight_files import read_weights
from programs import ROOT

FIXTURE = ROOT / 'tests' / 'data' / 'official_glus_tiny'
YAML = FIXTURE / 'sam2_tiny_a.yaml'


@pytest.fixture
def run(call_tool, monkeypatch, tmp_path):
    """Run a converter in an empty folder: exit status, output and errors."""
    monkeypatch.chdir(tmp_path)
    return lambda name, *args: call_tool(ROOT / 'tools' / 'model_converters' / f'{name}.py', *args)


@pytest.fixture
def refused(run, tmp_path):
    """Run a converter that has to refuse; return what it says."""

    def call(name, *args):
        before = sorted(tmp_path.rglob('*'))
        status, _, error = run(name, *args)
        assert status == 2 and error.startswith(f'usage: {name}.py')
        assert sorted(tmp_path.rglob('*')) == before
        return error.partition(f'{name}.py: error: ')[2].rstrip('\n')

    return call


@pytest.fixture
def checkpoint(tmp_path):
    """A copy of the official checkpoint that may be damaged, with its vision tower beside it."""
    for name in ('checkpoint', 'clip'):
        shutil.copytree(FIXTURE / name, tmp_path / name)
    return tmp_path / 'checkpoint'


def test_glus_there_and_back(run, tmp_path):
    status, out, error = run('glus2mm', FIXTURE / 'checkpoint', 'ours', '--sam2', YAML, '--context',
                             3, '--query', 2, '--memory-stride', 1)
    assert status == 0 and out.splitlines()[-1] == 'wrote ours', error
    model = init_model(tmp_path / 'ours' / 'config.py', tmp_path / 'ours' / 'model.pth')
    cfg = model.test_cfg
    assert (cfg.num_context, cfg.window, cfg.memory_stride) == (3, 2, 1)
    run('mm2hf', 'ours/config.py', 'ours/model.pth', 'theirs', '--max-shard-size', '8MB')
    weights = read_weights(tmp_path / 'theirs').tensors
    official = read_weights(FIXTURE / 'checkpoint').tensors
    assert weights.keys() == official.keys()
    assert all(torch.equal(weights[name], official[name]) for name in official)
    assert (tmp_path / 'theirs' / 'pytorch_model.bin.index.json').is_file()
    run('mm2hf', 'ours/config.py', 'ours/model.pth', 'theirs', '--safetensors', '--dtype',
        'float16', '--vision-tower', 'openai/clip', '--force')
    weights = read_weights(tmp_path / 'theirs')
    assert {value.dtype for value in weights.tensors.values()} == {torch.float16}
    assert {path.name for path in weights.files.values()} == {'model.safetensors'}
    config = json.loads((tmp_path / 'theirs' / 'config.json').read_text())
    assert (config['vision_tower'], config['torch_dtype']) == ('openai/clip', 'float16')


def test_lisa(run, tmp_path, tiny_lisa):
    folder, sam2 = tiny_lisa
    run('lisa2mm', folder, 'start', '--clip', FIXTURE / 'clip', '--sam2', YAML, '--sam2-checkpoint',
        sam2, '--seed', 5)
    model = init_model(tmp_path / 'start' / 'config.py', tmp_path / 'start' / 'model.pth')
    name = 'sam_mask_decoder.iou_token.weight'
    stock = torch.load(sam2, weights_only=True)['model'][name].bfloat16()
    assert torch.equal(model.mask_head.sam2.get_parameter(name), stock)
    assert not torch.equal(
        model.mllm.seg_projector[0].weight,
        read_weights(folder).tensors['model.text_hidden_fcs.0.0.weight'])


# Bad input


def test_wrong_calls(refused, tmp_path, checkpoint):
    assert refused('mm2hf', 'no.py', 'no.pth', 'out') == (
        'expected a config file, got nothing there: no.py')
    assert 'invalid int value' in refused('glus2mm', checkpoint, 'out', '--context', 'four')
    assert refused('glus2mm', checkpoint, 'out', '--query', 0) == (
        'model.test_cfg.window must be an integer of at least 1, got 0')
    (tmp_path / 'out').mkdir()
    (tmp_path / 'out' / 'mine.txt').touch()
    assert refused('glus2mm', checkpoint, 'out').startswith(
        "expected a new or empty output folder, but out holds ['mine.txt']; --force replaces")
