"""Which memories a frame sees, and a bank that stays small.

``dev/check_official.py`` compares the selection with the official table.
"""

import pytest
import torch

from glus_mm.models import MemoryBank


def entry(frame_idx):
    return torch.tensor([[float(frame_idx)]])


def select(bank, frame_idx):
    return [int(value) for value in bank.select(frame_idx)]


@pytest.mark.parametrize('stride', [1, 3, 5, 9])
def test_bounded(stride):
    bank = MemoryBank(stride)
    for frame_idx in range(1000):
        assert len(bank.select(frame_idx)) <= bank.num_memories
        bank.add(frame_idx, entry(frame_idx))
        assert len(bank) == len(bank.frame_ids) <= bank.num_memories + 1


@pytest.mark.parametrize(('stride', 'num_memories'), [
    (1, 7), (3, 7), (4, 1), (2, 2), (5, 3), (3, 10**30), (10**30, 7)])
def test_pruned_bank_selects_like_one_that_keeps_all(stride, num_memories):
    """Also where frames are missing, as those without [SEG] are."""
    generator = torch.Generator().manual_seed(stride % 1000)
    stored = (torch.rand(200, generator=generator) < 0.6).tolist()
    bank, everything = MemoryBank(stride, num_memories), {}
    for frame_idx in range(200):
        expected = [i for i in bank.candidates(frame_idx) if i in everything]
        assert select(bank, frame_idx) == expected
        if stored[frame_idx]:
            everything[frame_idx] = True
            bank.add(frame_idx, entry(frame_idx))


@pytest.mark.parametrize('args', [(0, 7), (3, 0), (1, 2.5), ('1', 7)])
def test_impossible_numbers(args):
    with pytest.raises(ValueError, match='num_memories must be integers of at least 1, got'):
        MemoryBank(*args)
