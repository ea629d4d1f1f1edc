"""The batches of a training loop, which the engines move on in two ways."""

from collections.abc import Callable, Iterator
from typing import Any


class Batches:
    """Stands in for a loop's ``dataloader_iterator``, on MMEngine and on onedl-mmengine.

    A loop that resumes throws away what its run has seen: MMEngine 0.10 asks for batch after
    batch, onedl-mmengine calls :meth:`skip_iter`.

    Args:
        batches: an iterator, the loop's own or one made for it.
    """

    def __init__(self, batches: Iterator) -> None:
        self.batches = batches

    def __iter__(self) -> Iterator:
        return self

    def __next__(self) -> Any:
        return next(self.batches)

    def skip_iter(self, num_iters: int) -> None:
        """Move on without a batch."""
        if hasattr(self.batches, 'skip_iter'):
            self.batches.skip_iter(num_iters)
            # onedl-mmengine would begin with the data at the next batch, which draws a random
            # number: too late, where random states are restored in between.
            getattr(self.batches, '_ensure_iterator', lambda: None)()
        else:
            for _ in range(num_iters):
                next(self.batches)


class CallAfter(Batches):
    """The same batches; something is done before one of them is asked for.

    Args:
        batches: an iterator.
        number: how many batches come first.
        action: called once.
    """

    def __init__(self, batches: Iterator, number: int, action: Callable[[], None]) -> None:
        super().__init__(batches)
        self.number = number
        self.action: Callable[[], None] | None = action

    def __next__(self) -> Any:
        if self.number <= 0 and self.action is not None:
            action, self.action = self.action, None
            action()
        self.number -= 1
        return super().__next__()

    def skip_iter(self, num_iters: int) -> None:
        """Move on; what is skipped counts."""
        super().skip_iter(num_iters)
        self.number -= num_iters
