"""Work in a thread beside the main one, a bounded number of items ahead or behind."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from glus_mm.utils.checked import checked

Item = TypeVar('Item')
Result = TypeVar('Result')


def map_in_thread(function: Callable[[Item], Result], items: Iterable[Item], depth: int,
                  *then: Callable[[Result], Result]) -> Iterator[tuple[Item, Result]]:
    """Apply a function to items in a thread while the caller works.

    Before a result is handed over, the thread has been given up to ``depth`` further items. So
    it prepares what the caller needs next; or, where getting an item is the expensive part, it
    finishes what the caller has made. Closing the iterator ends the thread.

    Args:
        function: what to do.
        items: what to do it with; they are taken in the calling thread.
        depth: bound of the items and results that wait; 0 does without a thread.
        then: what to do with the results, each in a thread of its own.

    Yields:
        ``(item, result)`` in the order of the items. An error comes up at its item.

    Raises:
        ValueError: ``depth`` is negative.
    """
    checked(0, depth=depth)
    if depth == 0:
        for item in items:
            result = function(item)
            for further in then:
                result = further(result)
            yield item, result
        return
    pools = [ThreadPoolExecutor(1, thread_name_prefix='glus_mm') for _ in (function, *then)]
    waiting: deque = deque()
    try:
        for item in items:
            future = pools[0].submit(function, item)
            for pool, further in zip(pools[1:], then):
                future = pool.submit(lambda before, do: do(before.result()), future, further)
            waiting.append((item, future))
            if len(waiting) > depth:
                first, future = waiting.popleft()
                yield first, future.result()
        while waiting:
            first, future = waiting.popleft()
            yield first, future.result()
    finally:
        for pool in pools:
            pool.shutdown(wait=True, cancel_futures=True)
