"""Shares of about equal cost."""

import numpy as np
import pytest

from glus_mm.utils.balance import balance


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
