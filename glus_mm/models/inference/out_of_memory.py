"""Say which option to lower when the memory is not enough."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from glus_mm.models.inference.test_cfg import GLUSTestCfg

# How torch's allocator for the CPU begins; it raises a plain RuntimeError.
_ON_THE_CPU = ("DefaultCPUAllocator: can't allocate memory", 'DefaultCPUAllocator: not enough')


@contextmanager
def explain_out_of_memory(cfg: GLUSTestCfg, num_expressions: int) -> Iterator[None]:
    """Errors of the allocators in this block say which options to lower.

    Args:
        cfg: the settings.
        num_expressions: how many expressions are segmented.

    Raises:
        torch.OutOfMemoryError: in place of the allocator's own error, which is its cause.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise torch.OutOfMemoryError(_advice(cfg, num_expressions, error)) from error
    except RuntimeError as error:
        if not any(text in str(error) for text in _ON_THE_CPU):
            raise
        raise torch.OutOfMemoryError(_advice(cfg, num_expressions, error)) from error


def _advice(cfg: GLUSTestCfg, num_expressions: int, error: RuntimeError) -> str:
    batch = min(num_expressions, cfg.max_expressions)
    steps = []
    if batch > 1:
        steps.append(f'model.test_cfg.max_expressions below {batch} (now {cfg.max_expressions}; '
                     'more expressions are worked off in chunks, with the same masks)')
    if cfg.max_tracks > 1:
        steps.append(f'model.test_cfg.max_tracks (now {cfg.max_tracks}; fewer videos at once)')
    steps += [f'model.test_cfg.{name} (now {getattr(cfg, name)}; other masks)'
              for name in ('window', 'num_context') if getattr(cfg, name) > 1]
    first = str(error).splitlines()[0] if str(error) else type(error).__name__
    return (f'the memory does not suffice for {batch} expressions at a time; lower '
            f'{", then ".join(steps) or "the size of the model"}. {first}')
