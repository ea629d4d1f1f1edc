"""The states of the random number generators of a process and of its model."""

import logging
import random
from collections.abc import Iterator

import numpy as np
import torch
from mmengine.logging import print_log
from torch import nn


def random_state(model: nn.Module) -> dict:
    """States of the generators of this process.

    Args:
        model: generators that its modules hold as attributes count too.

    Returns:
        Tensors and plain containers: of Python, NumPy, torch, the current CUDA device where CUDA
        is in use, and the modules.
    """
    version, words, gauss = random.getstate()
    _, key, position, has_gauss, cached = np.random.get_state()
    state = dict(
        python=dict(version=version, words=torch.tensor(words), gauss=gauss),
        numpy=dict(key=torch.from_numpy(key.astype(np.int64)), position=int(position),
                   has_gauss=int(has_gauss), cached=float(cached)),
        torch=torch.get_rng_state(),
        modules={name: generator.get_state() for name, generator in _generators(model)})
    if _uses_cuda():
        state['cuda'] = torch.cuda.get_rng_state()
    return state


def set_random_state(state: dict, model: nn.Module) -> None:
    """Let the generators of this process go on from :func:`random_state`.

    Args:
        state: what that returned; its tensors may be on any device.
        model: a model of the same structure. A generator that only one of both has is warned of.
    """
    python, numpy = state['python'], state['numpy']
    random.setstate((python['version'], tuple(python['words'].tolist()), python['gauss']))
    np.random.set_state(('MT19937', numpy['key'].cpu().numpy().astype(np.uint32),
                         numpy['position'], numpy['has_gauss'], numpy['cached']))
    torch.set_rng_state(state['torch'].cpu())
    if ('cuda' in state) != _uses_cuda():
        print_log('the run goes on with CUDA where it had none, or the other way round: its random '
                  'numbers are not those of an uninterrupted one', 'current', logging.WARNING)
    elif 'cuda' in state:
        torch.cuda.set_rng_state(state['cuda'].cpu())
    own, saved = dict(_generators(model)), state['modules']
    for name in own.keys() & saved.keys():
        own[name].set_state(saved[name].cpu())
    if own.keys() != saved.keys():
        print_log('random generators of the model that are not in the checkpoint, or the other way '
                  f'round: {sorted(own.keys() ^ saved.keys())}', 'current', logging.WARNING)


def _uses_cuda() -> bool:
    return torch.cuda.is_available() and torch.cuda.is_initialized()


def _generators(model: nn.Module) -> Iterator[tuple[str, torch.Generator]]:
    """Generators that are attributes of modules, with their names."""
    for name, module in model.named_modules():
        for attribute, value in vars(module).items():
            if isinstance(value, torch.Generator):
                yield f'{name}.{attribute}' if name else attribute, value
