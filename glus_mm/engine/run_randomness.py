"""The random numbers of a training: through checkpoints, and apart from those of validation."""

import logging
import random
from collections.abc import Iterator

import numpy as np
import torch
from mmengine.dist import all_gather_object, get_dist_info
from mmengine.logging import print_log
from mmengine.runner import Runner
from torch import nn

from glus_mm.engine.batches import CallAfter
from glus_mm.utils.modules import unwrapped

KEY = 'random_state'


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


class RunRandomness:
    """What a checkpoint hook does about random numbers.

    A checkpoint holds the states of all processes, as they are after an iteration, under
    ``random_state``.
    """

    def __init__(self) -> None:
        self._loaded: list[dict] | None = None
        self._gathered: list[dict] | None = None
        self._training: dict | None = None  # of this process, while validation runs

    def load(self, checkpoint: dict) -> None:
        """Take the states out of a checkpoint; whether they are used is seen in :meth:`start`."""
        self._loaded = checkpoint.pop(KEY, {}).get('ranks')

    def start(self, runner: Runner) -> None:
        """Let a resumed run go on with the random numbers of an uninterrupted one.

        Args:
            runner: the runner, at the end of its ``before_train``.
        """
        states, self._loaded = self._loaded, None
        if runner.iter == 0:
            return
        if states is None:
            print_log('the checkpoint holds no random states: random numbers from here on are not '
                      'those of an uninterrupted run', 'current', logging.WARNING)
            return
        rank, world_size = get_dist_info()
        if len(states) != world_size:
            print_log(f'the checkpoint holds the random states of {len(states)} processes, this '
                      f'run has {world_size}: process r takes state r modulo {len(states)}',
                      'current', logging.WARNING)

        def resume() -> None:
            set_random_state(states[rank % len(states)], unwrapped(runner.model))

        loop = runner.train_loop
        if hasattr(loop, 'dataloader_iterator'):
            # Only after the loop has thrown away what the run has seen, which may draw too.
            loop.dataloader_iterator = CallAfter(loop.dataloader_iterator, runner.iter, resume)
        else:
            resume()

    def begin_validation(self, runner: Runner) -> None:
        """Remember the state of training."""
        self._training = random_state(unwrapped(runner.model))

    def end_validation(self, runner: Runner) -> None:
        """Go on with it, however much validation drew."""
        state, self._training = self._training, None
        set_random_state(state, unwrapped(runner.model))

    def gather(self, runner: Runner) -> None:
        """Collect the states of all processes for the next checkpoint; each has to call it."""
        own = self._training or random_state(unwrapped(runner.model))
        self._gathered = all_gather_object(own)

    def save(self, runner: Runner, checkpoint: dict) -> None:
        """Put the states that were gathered into a checkpoint.

        Where nobody gathered them a single process does so now; several cannot, as only one of
        them saves.
        """
        states, self._gathered = self._gathered, None
        if states is None and get_dist_info()[1] == 1:
            states = [self._training or random_state(unwrapped(runner.model))]
        if states is not None:
            checkpoint[KEY] = dict(ranks=states)
