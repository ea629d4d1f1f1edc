"""Where the time of a run goes."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from glus_mm.models import GLUS

PARTS = ('vision tower', 'SAM-2 encoder', 'LLM', 'memory attention', 'mask decoder',
         'memory encoder', 'rest')


class PartTimer:
    """Adds up wall and CPU seconds of a run and of its parts; waits for the device at borders.

    Methods and modules are wrapped while :meth:`watch` is active. The CPU time, of all threads,
    hardly depends on what else runs on the machine.

    Args:
        model: the model that runs.
    """

    def __init__(self, model: GLUS) -> None:
        self.model = model
        self.wall = 0.0
        self.cpu = 0.0
        self.parts = dict.fromkeys(PARTS, 0.0)
        self.images = {'vision tower': 0, 'SAM-2 encoder': 0}
        self._cuda = next(model.parameters()).is_cuda
        self._inner = 0.0

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Count the time of a block, and its parts."""
        head, mllm = self.model.mask_head, self.model.mllm
        restore = [
            _wrap(mllm.vision_tower, 'forward', self._timed('vision tower')),
            _wrap(head.sam2.image_encoder, 'forward', self._timed('SAM-2 encoder')),
            _wrap(mllm.llm, 'forward', self._timed('LLM')),
            _wrap(head, '_condition', self._timed('memory attention')),
            _wrap(head, 'forward', self._timed('mask decoder')),
            _wrap(head, 'encode_memory', self._timed('memory encoder')),
        ]
        before = sum(self.parts.values())
        start, cpu = self._now(), time.process_time()
        try:
            yield
        finally:
            wall = self._now() - start
            self.wall += wall
            self.cpu += time.process_time() - cpu
            self.parts['rest'] += wall - (sum(self.parts.values()) - before)
            for undo in restore:
                undo()

    def _now(self) -> float:
        if self._cuda:
            torch.cuda.synchronize()
        return time.perf_counter()

    def _timed(self, part: str) -> Callable:

        def wrap(function: Callable) -> Callable:

            def timed(*args, **kwargs):
                if part in self.images:
                    self.images[part] += len(args[0] if args else next(iter(kwargs.values())))
                outer, self._inner = self._inner, 0.0
                start = self._now()
                out = function(*args, **kwargs)
                seconds = self._now() - start
                self.parts[part] += seconds - self._inner
                self._inner = outer + seconds
                return out

            return timed

        return wrap


def _wrap(owner, name: str, wrap: Callable) -> Callable[[], None]:
    """Put a wrapper in front of a method of one object; returns what undoes it."""
    own = owner.__dict__.get(name)
    setattr(owner, name, wrap(getattr(owner, name)))

    def undo() -> None:
        if own is None:
            delattr(owner, name)
        else:
            setattr(owner, name, own)

    return undo
