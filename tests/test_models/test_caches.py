"""A cache that keeps its bound and gives what computing would give."""

import random

import pytest

from glus_mm.models.inference import BoundedCache


@pytest.mark.parametrize('max_size', [0, 1, 4])
def test_cached_equals_computed_within_the_bound(max_size):
    cache = BoundedCache(max_size)
    keys = random.Random(0).choices(range(8), k=300)
    for key in keys:
        assert cache.get(key, lambda key=key: key * key) == key * key
        assert len(cache) <= max_size


def test_what_is_kept():
    cache, computed = BoundedCache(2), []

    def get(key):
        return cache.get(key, lambda: computed.append(key))

    for key in 'abacab':
        get(key)
    assert computed == ['a', 'b', 'c', 'b']
    cache, computed = BoundedCache(1), []
    for _ in range(2):
        cache.get('x', lambda: computed.append(1))
    assert computed == [1]

    def fail():
        raise OSError('no frame')

    with pytest.raises(OSError, match='no frame'):
        cache.get('y', fail)
    assert len(cache) == 1 and cache.get('y', lambda: 5) == 5


def test_bounds():
    with pytest.raises(ValueError, match='max_size must be .*at least 0, got -1'):
        BoundedCache(-1)
    with pytest.raises(ValueError, match='expected at most 3 keys to pin, got 4'):
        BoundedCache(1, 3).pin(range(4))


@pytest.mark.parametrize(('max_size', 'pinned'), [(0, range(2, 5)), (2, range(2, 5)), (3, ())])
def test_pinned_values_stay_however_long_ago_they_were_used(max_size, pinned):
    cache, computed = BoundedCache(max_size, 3), []

    def get(key):
        return cache.get(key, lambda: computed.append(key) or key * 7)

    get(3)
    cache.pin(pinned)
    for key in [*range(20), *range(20)]:
        assert get(key) == key * 7
        assert len(cache) <= max_size + len(pinned)
    for key in pinned:
        assert key in cache and computed.count(key) == 1 + (key == 3 and max_size == 0)
    cache.pin(())
    assert not any(key in cache for key in pinned)
