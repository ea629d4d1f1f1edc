"""The small copy of the official fixture: what changes, and that nothing else does."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import programs

REPO = Path(__file__).resolve().parents[2]
TOOL = REPO / 'dev' / 'compact_fixture.py'
COMMITTED = REPO / 'tests' / 'data' / 'official_glus_tiny'


@pytest.fixture(scope='module')
def copied(tmp_path_factory):
    """A made-up fixture and its copy."""
    source = tmp_path_factory.mktemp('full')
    for name in ('checkpoint', 'inference', 'video/frames'):
        (source / name).mkdir(parents=True)
    generator = torch.Generator().manual_seed(0)
    state = {f'layer{i}.weight': torch.randn(2**i, 3, generator=generator) for i in range(6)}
    state['view'] = torch.randn(100, generator=generator)[:4]
    torch.save(state, source / 'checkpoint' / 'pytorch_model.bin')
    (source / 'video' / 'frames' / '00000.png').write_bytes(b'\x89PNG bytes')
    half = np.arange(2 * 16 * 16, dtype=np.float16).reshape(2, 16, 16)
    np.savez(source / 'inference' / 'expected.npz', **{
        'call0/low_res_masks_s1': half, 'call0/low_res_masks_s8_f32': half.astype(np.float32),
        'low_res_s2_f0_b1': half, 'low_res_s4_f1_b1': half, 'empty': np.zeros(0)})
    target = tmp_path_factory.mktemp('small') / 'copy'
    assert programs.run(TOOL, source, target).returncode == 0
    return source, target


def test_shards(copied):
    source, target = copied
    state = torch.load(source / 'checkpoint' / 'pytorch_model.bin', weights_only=True)
    names = sorted(path.name for path in (target / 'checkpoint').iterdir())
    assert names == ['pytorch_model-00001-of-00002.bin', 'pytorch_model-00002-of-00002.bin',
                     'pytorch_model.bin.index.json']
    index = json.loads((target / 'checkpoint' / names[2]).read_text())
    assert list(index['weight_map']) == list(state), 'the order of the keys stays'
    assert index['metadata']['total_size'] == sum(value.nbytes for value in state.values())
    for name in names[:2]:
        shard = torch.load(target / 'checkpoint' / name, weights_only=True)
        assert list(shard) == [key for key, file in index['weight_map'].items() if file == name]
        for key, value in shard.items():
            assert torch.equal(value, state[key])
            assert value.untyped_storage().nbytes() == value.nbytes


def test_arrays(copied):
    source, target = copied
    full, small = (np.load(root / 'inference' / 'expected.npz') for root in copied)
    half = full['call0/low_res_masks_s1']
    assert set(small) == {'call0/low_res_masks_s4', 'call0/low_res_masks_s8_f32',
                          'low_res_s4_f0_b1', 'low_res_s4_f1_b1'}
    assert np.array_equal(small['call0/low_res_masks_s4'], half[:, ::4, ::4])
    assert np.array_equal(small['call0/low_res_masks_s8_f32'], half)
    assert (target / 'video/frames/00000.png').read_bytes() == \
        (source / 'video/frames/00000.png').read_bytes()


def test_sizes_of_the_committed_copy():
    sizes = [path.stat().st_size for path in COMMITTED.rglob('*') if path.is_file()]
    assert sum(sizes) <= 20e6 and max(sizes) < 10e6


def test_no_fixture(refusal, tmp_path):
    assert 'expected a checkpoint file' in refusal(TOOL, tmp_path, tmp_path / 'out')
