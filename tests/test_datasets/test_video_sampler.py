"""The order of items and draws."""

from itertools import islice

import pytest
from mmengine.dataset import pseudo_collate
from mmengine.runner import Runner

from glus_mm.datasets import InfiniteVideoSampler, MeViSDataset
from glus_mm.registry import DATA_SAMPLERS


def _take(sampler, number):
    return list(islice(sampler, number))


def test_every_epoch_is_a_fresh_permutation_with_its_own_draw():
    items = _take(InfiniteVideoSampler(range(20), seed=1), 100)
    epochs = [items[i:i + 20] for i in range(0, 100, 20)]
    for number, epoch in enumerate(epochs):
        assert sorted(index for index, _ in epoch) == list(range(20))
        assert {draw for _, draw in epoch} == {number}
    assert len({tuple(index for index, _ in epoch) for epoch in epochs}) == 5


def test_order_is_a_function_of_seed_and_length():
    assert _take(InfiniteVideoSampler(range(9), seed=4), 30) == \
        _take(InfiniteVideoSampler(list('abcdefghi'), seed=4), 30)
    assert _take(InfiniteVideoSampler(range(9), seed=4), 9) != \
        _take(InfiniteVideoSampler(range(9), seed=5), 9)
    sampler = InfiniteVideoSampler(range(9))
    assert _take(sampler, 12) == _take(sampler, 12)


def test_no_shuffle():
    assert _take(InfiniteVideoSampler(range(2), shuffle=False), 5) == \
        [(0, 0), (1, 0), (0, 1), (1, 1), (0, 2)]


@pytest.mark.parametrize('world_size', [2, 3, 7])
def test_ranks_share_one_sequence(world_size):
    whole = _take(InfiniteVideoSampler(range(5), seed=2), 42)
    merged = [None] * 42
    for rank in range(world_size):
        sampler = InfiniteVideoSampler(range(5), seed=2)
        sampler.rank, sampler.world_size = rank, world_size
        merged[rank::world_size] = _take(sampler, len(merged[rank::world_size]))
    assert merged == whole


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


@pytest.mark.parametrize('num_workers', [0, 1, 2])
def test_batches_of_the_runner_do_not_depend_on_workers(mevis_root, num_workers):
    dataset = MeViSDataset(
        data_root=str(mevis_root),
        pipeline=[lambda r: {'id': r['video_id'], 'draw': float(r['rng'].random())}])
    loader = Runner.build_dataloader({
        'dataset': dataset,
        'batch_size': 2,
        'num_workers': num_workers,
        'sampler': {'type': 'glus_mm.InfiniteVideoSampler', 'seed': 6},
        'collate_fn': pseudo_collate,
    }, seed=99 + num_workers)
    pairs = _take(InfiniteVideoSampler(dataset, seed=6), 8)
    batches = list(islice(loader, 4))
    assert [video for batch in batches for video in batch['id']] == \
        [dataset[pair]['id'] for pair in pairs]
    assert [value for batch in batches for value in batch['draw']] == \
        [dataset[pair]['draw'] for pair in pairs]
