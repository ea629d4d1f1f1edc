"""Weights with flipped bits, or with values that are no weights, are refused by all readers."""

import shutil
from pathlib import Path

import pytest
import torch
from torch import nn

from glus_mm.apis import init_model
from glus_mm.utils.checkpoint import BadWeightsError, check_fit, is_finite
from glus_mm.utils.checkpoint_files import check_whole, read_checkpoint, why_torn
from glus_mm.utils.weight_files import read_weight_file
from programs import ROOT

TINY = ROOT / 'checkpoints' / 'glus_tiny_moving-shapes.pth'


def flip_bytes(path, at=0.5):
    """Flip two bytes in the middle of a file, which are some parameter's."""
    content = bytearray(path.read_bytes())
    place = int(len(content) * at)
    content[place] ^= 0xff
    content[place + 1] ^= 0xff
    path.write_bytes(content)
    return path


@pytest.fixture
def damaged(tmp_path):
    return flip_bytes(Path(shutil.copy(TINY, tmp_path / 'model.pth')))


def test_flipped_bytes_are_seen_by_all_readers(damaged):
    assert torch.load(damaged, weights_only=True), 'torch does not mind'
    assert 'is damaged' in why_torn(damaged)
    for read in (check_whole, read_checkpoint, read_weight_file):
        with pytest.raises(ValueError, match=r'damaged one \(its part .*model\.pth'):
            read(damaged)
    with pytest.raises(ValueError, match='damaged one'):
        init_model('configs/glus/glus_tiny_moving-shapes.py', damaged)
    with pytest.raises(ValueError, match='damaged'):
        check_whole(damaged)
    shutil.copy(TINY, damaged)
    check_whole(damaged)
    assert why_torn(damaged) is None


@pytest.mark.parametrize('at', [0.2, 0.5, 0.8, 0.98])
def test_any_part_of_the_file(tmp_path, at):
    file = tmp_path / 'model.pth'
    torch.save({'state_dict': {'w': torch.rand(5000)}}, file)
    assert why_torn(file) is None
    assert why_torn(flip_bytes(file, at)) is not None


def test_cut_anywhere(tmp_path):
    """Also where torch's reader for old files looks for a place before the start."""
    file = tmp_path / 'model.pth'
    torch.save({'state_dict': {'w': torch.rand(50)}}, file)
    whole = file.read_bytes()
    for length in [*range(8), *range(8, len(whole), 97), len(whole) - 1]:
        for content in (whole[:length], b'\x80' * length):
            file.write_bytes(content)
            with pytest.raises(ValueError, match=r'model\.pth'):
                read_checkpoint(file)


@pytest.mark.parametrize('value', [float('nan'), float('-inf')])
def test_values_that_are_not_finite(tmp_path, value):
    content = torch.load(TINY, weights_only=True)
    state = content.get('state_dict', content)
    name = next(key for key, value in state.items() if value.is_floating_point())
    state[name].view(-1)[-1] = value
    torch.save(content, tmp_path / 'model.pth')
    with pytest.raises(BadWeightsError, match=rf'model.pth\nNaN or infinite \(1\):\n  {name}'):
        init_model('configs/glus/glus_tiny_moving-shapes.py', tmp_path / 'model.pth')


def test_types_of_weights():
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    state = {key: value.clone() for key, value in model.state_dict().items()}
    assert check_fit(model, state, 'here') == []
    for dtype in (torch.int8, torch.bool, torch.complex64):
        state['0.weight'] = torch.ones(3, 3).to(dtype)
        with pytest.raises(BadWeightsError, match=r'here\nother type \(1\):\n  0.weight'):
            check_fit(model, state, 'here')
    model = nn.Linear(2, 2)
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        assert check_fit(model, {k: v.to(dtype) for k, v in model.state_dict().items()}, '') == []
    assert is_finite(torch.zeros(0)) and is_finite(torch.tensor([1]))
    assert not is_finite(torch.tensor([[1., float('nan')]], dtype=torch.bfloat16))
