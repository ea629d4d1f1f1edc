"""The order of samples, of a mix and of one data set: ratios, processes, workers, jumping ahead."""

import math
import multiprocessing
from itertools import islice

import numpy as np
import pytest
import torch.distributed as torch_dist
from mmengine.dataset import pseudo_collate
from mmengine.runner import Runner
from torch.utils.data import ConcatDataset

from glus_mm.datasets import InfiniteVideoSampler, MixedRefVOSDataset, MixedVideoSampler
from glus_mm.registry import DATA_SAMPLERS

SIZES = (5, 1, 40)
RATIOS = (1, 2.5, 0.25)


def concat(*sizes):
    return ConcatDataset([range(size) for size in sizes])


def take(sampler, number):
    return list(islice(sampler, number))


def make(seed=3, sizes=SIZES, ratios=RATIOS):
    return MixedVideoSampler(concat(*sizes), list(ratios), seed=seed)


def test_ratios_and_videos_are_met():
    """40 : 150 : 4 : 30 : 30 over 100,000 draws, within 4 standard errors, and even videos."""
    ratios, sizes, number = (40, 150, 4, 30, 30), (20, 30, 6, 10, 1), 100_000
    items = take(make(seed=0, sizes=sizes, ratios=ratios), number)
    counts = np.bincount([index for index, _ in items], minlength=sum(sizes))
    starts = np.cumsum([0, *sizes])
    for ratio, start, end in zip(ratios, starts[:-1], starts[1:]):
        p, videos = ratio / sum(ratios), counts[start:end]
        assert abs(videos.sum() - number * p) < 4 * math.sqrt(number * p * (1 - p))
        q = p / len(videos)
        assert np.abs(videos - number * q).max() < 5 * math.sqrt(number * q * (1 - q))


def test_items_are_independent():
    """How often a data set follows another is the product of their shares."""
    boundaries = np.cumsum(SIZES)
    items = take(make(), 20_000)
    kinds = np.searchsorted(boundaries, [index for index, _ in items], side='right')
    pairs = np.zeros((3, 3))
    np.add.at(pairs, (kinds[:-1], kinds[1:]), 1)
    shares = np.array(RATIOS) / sum(RATIOS)
    expected = np.outer(shares, shares) * pairs.sum()
    assert (np.abs(pairs - expected) < 5 * np.sqrt(expected)).all()
    items = take(make(), 500)
    assert [draw for _, draw in items] == list(range(500))
    assert all(type(index) is int and type(draw) is int for index, draw in items)


def test_sequence_is_a_function_of_seed_ratios_and_sizes():
    whole = take(make(), 200)
    assert take(make(), 200) == whole
    assert take(make(ratios=[8 * ratio for ratio in RATIOS]), 200) == whole
    assert take(make(seed=4), 200) != whole
    assert take(make(ratios=(1, 2.5, 0.3)), 200) != whole
    sampler = make()
    assert take(sampler, 9) == take(sampler, 9) == whole[:9]
    # What a run with this seed sees must not change with a new version, of NumPy either.
    golden = [23, 49, 86, 11, 56, 66, 17, 76, 34, 81]
    assert [index for index, _ in take(make(0, (50, 50), (1, 2)), 10)] == golden
    items = take(make(sizes=(3, 3, 3), ratios=(1e308, 1e308, 1e-308)), 300)
    assert {index // 3 for index, _ in items} == {0, 1}


SAMPLERS = [make, lambda: InfiniteVideoSampler(range(9), seed=2),
            lambda: InfiniteVideoSampler(range(4), shuffle=False)]


@pytest.mark.parametrize('make_sampler', SAMPLERS)
@pytest.mark.parametrize('world_size', [2, 3, 7])
def test_ranks_share_one_sequence(make_sampler, world_size):
    whole, merged = take(make_sampler(), 84), [None] * 84
    for rank in range(world_size):
        sampler = make_sampler()
        sampler.rank, sampler.world_size = rank, world_size
        merged[rank::world_size] = take(sampler, 84 // world_size)
    assert merged == whole


@pytest.mark.parametrize('make_sampler', SAMPLERS)
@pytest.mark.parametrize('position', [0, 1, 9, 50])
def test_jumping_ahead(make_sampler, position):
    whole, sampler = take(make_sampler(), 90), make_sampler()
    begun = iter(sampler)
    next(begun)
    sampler.skip_to(position)
    assert take(sampler, 30) == whole[position:position + 30]
    assert next(begun) == whole[1], 'an iteration that had begun has moved'
    sampler.rank, sampler.world_size = 1, 3
    assert take(sampler, 10) == whole[position + 1:position + 31:3]


def _rank(rank, path, queue):
    torch_dist.init_process_group(
        'gloo', init_method=f'file://{path}', rank=rank, world_size=2)
    queue.put((rank, take(make(), 60), make(seed=None).seed,
               take(InfiniteVideoSampler(range(9), seed=1), 30)))
    torch_dist.barrier()
    torch_dist.destroy_process_group()


def test_two_processes(tmp_path):
    """Real ones, with gloo: together they see the sequence of one."""
    context = multiprocessing.get_context('fork')
    queue = context.Queue()
    processes = [context.Process(target=_rank, args=(rank, tmp_path / 'store', queue))
                 for rank in range(2)]
    for process in processes:
        process.start()
    (_, even, seed, even_one), (_, odd, other_seed, odd_one) = sorted(
        queue.get(timeout=300) for _ in processes)
    for process in processes:
        process.join(timeout=300)
        assert process.exitcode == 0
    assert [item for pair in zip(even, odd) for item in pair] == take(make(), 120)
    assert [item for pair in zip(even_one, odd_one) for item in pair] == take(
        InfiniteVideoSampler(range(9), seed=1), 60)
    assert seed == other_seed >= 0, 'processes without a seed drew different ones'


@pytest.mark.parametrize('num_workers', [0, 1, 3])
@pytest.mark.parametrize('drop_last', [False, True])
def test_batches_do_not_depend_on_workers(mevis_root, num_workers, drop_last):
    child = dict(type='glus_mm.MeViSDataset', data_root=str(mevis_root), pipeline=[
        lambda r: dict(id=r['video_id'], draw=float(r['rng'].random()))])
    mix = MixedRefVOSDataset([child, dict(child, min_frames=4, seed=5)])
    loader = Runner.build_dataloader(dict(
        dataset=mix, batch_size=4, num_workers=num_workers, drop_last=drop_last,
        sampler=dict(type='glus_mm.MixedVideoSampler', ratios=[1, 2], seed=6),
        collate_fn=pseudo_collate), seed=99 + num_workers)
    batches = list(islice(loader, 6))
    assert {len(batch['id']) for batch in batches} == {4}, 'mix of 5 videos, batches of 4'
    expected = [mix[pair] for pair in take(MixedVideoSampler(mix, [1, 2], seed=6), 24)]
    for key in ('id', 'draw'):
        assert [value for batch in batches for value in batch[key]] == [
            item[key] for item in expected]


@pytest.mark.parametrize('ratios, error', [
    ([1, 2], ValueError), ([1, 2, 3, 4], ValueError), ([], ValueError), ([1, 0, 2], ValueError),
    ([1, -1, 2], ValueError), ([1, math.nan, 2], ValueError), ([1, math.inf, 2], ValueError),
    ([1, '2', 3], ValueError), ([1, True, 2], ValueError), ([1, None, 2], ValueError),
    ('123', TypeError), (None, TypeError), (3, TypeError), ({1: 1, 2: 1, 3: 1}, TypeError),
])
def test_ratios_are_checked(ratios, error):
    with pytest.raises(error, match='ratios must'):
        MixedVideoSampler(concat(*SIZES), ratios)


def test_state_and_errors():
    with pytest.raises(TypeError, match='made of several, such as MixedRefVOSDataset, got range'):
        MixedVideoSampler(range(5), [1])
    with pytest.raises(ValueError, match=r'videos in every data set, got \[5, 0\]'):
        MixedVideoSampler(concat(5, 0), [1, 1])
    with pytest.raises(ValueError, match='seed must be .*at least 0, got -2'):
        make(seed=-2)
    with pytest.raises(ValueError, match='position of at least 0, got -1'):
        make().skip_to(-1)
    with pytest.raises(TypeError, match='ratio'):
        DATA_SAMPLERS.build(dict(type='MixedVideoSampler', dataset=concat(2), ratio=[1]))
    assert len(make()) == sum(SIZES)
    make().set_epoch(2)
    sampler = make(seed=8)
    state = sampler.state_dict()
    assert state == dict(type='MixedVideoSampler', seed=8, size=46, sizes=[5, 1, 40],
                         ratios=[1.0, 2.5, 0.25])
    other = make(seed=1)
    other.load_state_dict(state)
    assert take(other, 50) == take(sampler, 50)


def test_order_of_one_data_set():
    items = take(InfiniteVideoSampler(range(20), seed=1), 100)
    epochs = [items[i:i + 20] for i in range(0, 100, 20)]
    for number, epoch in enumerate(epochs):
        assert sorted(index for index, _ in epoch) == list(range(20))
        assert {draw for _, draw in epoch} == {number}
    assert len({tuple(index for index, _ in epoch) for epoch in epochs}) == 5
    assert take(InfiniteVideoSampler(range(9), seed=4), 30) == \
        take(InfiniteVideoSampler(list('abcdefghi'), seed=4), 30)
    assert take(InfiniteVideoSampler(range(9), seed=4), 9) != \
        take(InfiniteVideoSampler(range(9), seed=5), 9)
    sampler = InfiniteVideoSampler(range(9))
    assert take(sampler, 12) == take(sampler, 12)
    assert take(InfiniteVideoSampler(range(2), shuffle=False), 5) == \
        [(0, 0), (1, 0), (0, 1), (1, 1), (0, 2)]


def test_one_data_set_has_a_length():
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
