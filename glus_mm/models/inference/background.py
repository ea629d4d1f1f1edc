"""Work in a thread beside the main one, a bounded number of items ahead or behind."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar('Item')
Result = TypeVar('Result')


def map_in_thread(function: Callable[[Item], Result], items: Iterable[Item], depth: int
                  ) -> Iterator[tuple[Item, Result]]:
    """Apply a function to items in one thread while the caller works.

    Before a result is handed over, the thread has been given up to ``depth`` further items. So
    it prepares what the caller needs next; or, where getting an item is the expensive part, it
    finishes what the caller has made. Closing the iterator ends the thread.

    Args:
        function: what to do.
        items: what to do it with; they are taken in the calling thread.
        depth: bound of the items and results that wait; 0 does without a thread.

    Yields:
        ``(item, result)`` in the order of the items. An error comes up at its item.

    Raises:
        ValueError: ``depth`` is negative.
    """
    if depth < 0:
        raise ValueError(f'depth must be at least 0, got {depth}')
    if depth == 0:
        for item in items:
            yield item, function(item)
        return
    pool = ThreadPoolExecutor(1, thread_name_prefix='glus_mm')
    waiting: deque = deque()
    try:
        for item in items:
            waiting.append((item, pool.submit(function, item)))
            if len(waiting) > depth:
                first, future = waiting.popleft()
                yield first, future.result()
        while waiting:
            first, future = waiting.popleft()
            yield first, future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
