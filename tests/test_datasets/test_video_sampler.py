"""The order of items and draws; processes and workers: see test_mixed_video_sampler.py."""

from itertools import islice

import pytest

from glus_mm.datasets import InfiniteVideoSampler
from glus_mm.registry import DATA_SAMPLERS


def _take(sampler, number):
    return list(islice(sampler, number))


def test_order():
    items = _take(InfiniteVideoSampler(range(20), seed=1), 100)
    epochs = [items[i:i + 20] for i in range(0, 100, 20)]
    for number, epoch in enumerate(epochs):
        assert sorted(index for index, _ in epoch) == list(range(20))
        assert {draw for _, draw in epoch} == {number}
    assert len({tuple(index for index, _ in epoch) for epoch in epochs}) == 5
    assert _take(InfiniteVideoSampler(range(9), seed=4), 30) == \
        _take(InfiniteVideoSampler(list('abcdefghi'), seed=4), 30)
    assert _take(InfiniteVideoSampler(range(9), seed=4), 9) != \
        _take(InfiniteVideoSampler(range(9), seed=5), 9)
    sampler = InfiniteVideoSampler(range(9))
    assert _take(sampler, 12) == _take(sampler, 12)
    assert _take(InfiniteVideoSampler(range(2), shuffle=False), 5) == \
        [(0, 0), (1, 0), (0, 1), (1, 1), (0, 2)]


def test_length_and_errors():
    sampler = InfiniteVideoSampler(range(5))
    sampler.set_epoch(3)
    assert len(sampler) == 5
    assert InfiniteVideoSampler(range(5), seed=None).seed >= 0
    with pytest.raises(ValueError, match='at least one item, got an empty one'):
        InfiniteVideoSampler([])
    with pytest.raises(ValueError, match='seed must be .*at least 0, got -1'):
        InfiniteVideoSampler(range(5), seed=-1)
    with pytest.raises(TypeError, match='shufle'):
        DATA_SAMPLERS.build({'type': 'InfiniteVideoSampler', 'dataset': [0], 'shufle': True})
