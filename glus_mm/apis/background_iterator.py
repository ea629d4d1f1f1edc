"""Read an iterator in a thread, with a limit on how long it may take."""

from collections import deque
from collections.abc import Iterable, Iterator
from threading import Condition, Thread
from typing import Generic, TypeVar

Item = TypeVar('Item')


class BackgroundIterator(Generic[Item]):
    """Yield ``(position, item)`` of an iterator that a thread reads, one item ahead.

    Args:
        source: what is read, by one thread only.
        timeout: seconds to wait for an item; None waits for ever.
        keep_latest: an item that was not asked for in time is replaced by the next one; else the
            source waits.

    Raises:
        ValueError: ``timeout`` is not positive.
    """

    def __init__(self, source: Iterable[Item], timeout: float | None = None,
                 keep_latest: bool = False) -> None:
        if timeout is not None and not timeout > 0:
            raise ValueError(f'timeout must be positive or None, got {timeout!r}')
        self.timeout = timeout
        self.keep_latest = keep_latest
        self._items: deque[tuple[int, Item]] = deque()
        self._error: Exception | None = None
        self._ended = False
        self._closed = False
        self._changed = Condition()
        self._last = -1
        Thread(target=self._read, args=(iter(source), ), daemon=True).start()

    def _read(self, source: Iterator[Item]) -> None:
        try:
            for position, item in enumerate(source):
                with self._changed:
                    if self.keep_latest:
                        self._items.clear()
                    else:
                        self._changed.wait_for(lambda: self._closed or not self._items)
                    if self._closed:
                        return
                    self._items.append((position, item))
                    self._changed.notify_all()
        except Exception as error:  # noqa: BLE001 - raised where the items are asked for
            self._error = error
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def __iter__(self) -> 'BackgroundIterator[Item]':
        """Itself."""
        return self

    def __next__(self) -> tuple[int, Item]:
        """Wait for the next item.

        Raises:
            TimeoutError: none came in time. The next call waits again.
            Exception: what the source has raised, after its last item.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._items or self._ended, self.timeout):
                after = 'its start' if self._last < 0 else f'frame {self._last}'
                raise TimeoutError(f'expected a frame of the source within {self.timeout:g} s '
                                   f'after {after}, got none: it has stalled')
            if self._items:
                self._last, item = self._items.popleft()
                self._changed.notify_all()
                return self._last, item
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        raise StopIteration

    def close(self) -> None:
        """Let the thread end with the item that it waits for."""
        with self._changed:
            self._closed = True
            self._items.clear()
            self._changed.notify_all()
