"""BalancedVideoSampler: every video once, shares of equal work, no video opened."""

import json

import numpy as np
import pytest

from glus_mm.datasets import BalancedVideoSampler, MixedRefVOSDataset, MovingShapesDataset
from glus_mm.registry import DATA_SAMPLERS
from glus_mm.utils.balance import balance

LENGTHS = (30, 4, 9, 4, 12)
EXPRESSIONS = (1, 3, 2, 1, 1)


@pytest.fixture
def dataset(tmp_path):
    """Videos that have an annotation and not one image."""
    videos = {
        f'v{i}': dict(
            height=8, width=8, frames=[f'{t:05d}' for t in range(length)],
            expressions={str(e): dict(exp='a circle', obj_id=[], anno_id=[], kind='motion')
                         for e in range(number)})
        for i, (length, number) in enumerate(zip(LENGTHS, EXPRESSIONS))}
    (tmp_path / 'meta_expressions.json').write_text(json.dumps(dict(videos=videos)))
    (tmp_path / 'mask_dict.json').write_text('{}')
    return MovingShapesDataset(data_root=str(tmp_path), test_mode=True)


def test_one_process_takes_all_the_most_work_first(dataset):
    sampler = DATA_SAMPLERS.build(
        dict(type='BalancedVideoSampler'), default_args=dict(dataset=dataset, seed=3))
    assert sampler.costs == [30, 12, 18, 4, 12]
    assert list(sampler) == [0, 2, 1, 4, 3] and len(sampler) == 5
    sampler.skip([0, 4])
    assert list(sampler) == [2, 1, 3] and len(sampler) == 3
    sampler.skip([])
    assert len(sampler) == 5
    with pytest.raises(IndexError, match='below 5, got 5'):
        sampler.skip([5])
    assert BalancedVideoSampler(MixedRefVOSDataset([dataset, dataset])).costs == \
        [30, 12, 18, 4, 12] * 2


def test_two_processes(dataset):
    """Each rank by itself; tests/test_tools/test_resume_testing.py runs real ones."""
    shares = []
    for rank in range(2):
        sampler = BalancedVideoSampler(dataset)
        sampler.rank, sampler.world_size = rank, 2
        sampler.skip([])
        shares.append(list(sampler))
        sampler.skip([0])
        shares.append(list(sampler))
    assert shares[0::2] == [[0, 4], [2, 1, 3]], 'work of 42 and 34'
    assert shares[1::2] == [[2, 3], [1, 4]], 'work of 22 and 24, without the first'


def test_other_data_sets():
    with pytest.raises(TypeError, match='list of videos, got list'):
        BalancedVideoSampler([1, 2])

    class NoVideos:

        def __len__(self):
            return 1

        def get_data_info(self, idx):
            return dict(frame_names=())

    with pytest.raises(ValueError, match='item 0 .* got no expressions'):
        BalancedVideoSampler(NoVideos())


def test_shares():
    rng = np.random.default_rng(0)
    for num_parts in (1, 2, 3, 8):
        costs = rng.integers(4, 121, 40).tolist()
        parts = balance(costs, num_parts)
        assert sorted(i for part in parts for i in part) == list(range(40))
        loads = [sum(costs[i] for i in part) for part in parts]
        # The longest share was the shortest one before it got its last item.
        longest = parts[loads.index(max(loads))]
        assert max(loads) - costs[longest[-1]] <= min(loads)
    costs = [100, 1] * 20
    loads = [sum(costs[i] for i in part) for part in balance(costs, 2)]
    assert loads == [1010, 1010]
    assert [sum(costs[r::2]) for r in range(2)] == [2000, 20]
    assert balance([1, 5, 5, 3], 1) == [[1, 2, 3, 0]]
    assert balance([7], 3) == [[0], [], []]
    assert balance([], 2) == [[], []]
    assert balance([0, 0, 0, 0], 2) == [[0, 2], [1, 3]]
    with pytest.raises(ValueError, match='at least one part, got 0'):
        balance([1], 0)
    with pytest.raises(ValueError, match='at least 0, got -1'):
        balance([1, -1], 2)
    with pytest.raises(ValueError, match='at least 0, got nan'):
        balance([float('nan')], 2)
