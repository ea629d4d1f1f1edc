"""Work in a thread: order, bound, errors, and an end."""

import threading

import pytest

from glus_mm.models.inference import map_in_thread


@pytest.mark.parametrize('depth', [0, 1, 3, 100])
def test_order(depth):
    assert list(map_in_thread(lambda x: x * x, range(9), depth)) == [(i, i * i) for i in range(9)]
    assert list(map_in_thread(lambda x: x, [], depth)) == []


@pytest.mark.parametrize('depth', [0, 2])
def test_no_more_items_are_taken_than_the_bound(depth):
    taken, done = [], 0

    def items():
        for i in range(20):
            taken.append(i)
            yield i

    for _ in map_in_thread(lambda x: x, items(), depth):
        done += 1
        assert len(taken) <= done + depth
    assert done == 20


def test_errors_and_the_end():
    seen = []
    with pytest.raises(ZeroDivisionError):
        for item, _ in map_in_thread(lambda x: 1 / (x - 3), range(9), 2):
            seen.append(item)
    assert seen == [0, 1, 2]
    before = threading.enumerate()
    work = map_in_thread(lambda x: x, range(100), 4)
    next(work)
    thread, = (t for t in threading.enumerate() if t not in before and t.name.startswith('glus_mm'))
    work.close()
    assert not thread.is_alive()
    with pytest.raises(ValueError, match='depth must be .*at least 0, got -1'):
        next(map_in_thread(abs, [1], -1))
