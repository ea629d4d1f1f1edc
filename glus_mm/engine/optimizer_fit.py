"""Does the optimizer's state in a checkpoint belong to the optimizer of a config?"""

import logging

from mmengine.logging import print_log
from mmengine.optim import OptimWrapper
from torch import Tensor, nn

from glus_mm.utils.checkpoint import list_keys

# States that have the shape of their parameter.
_SHAPED = ('exp_avg', 'exp_avg_sq', 'momentum_buffer')


def check_optimizer_fit(wrapper: OptimWrapper, model: nn.Module, saved: dict | None,
                        source: str) -> None:
    """Raise if an optimizer cannot go on from what a checkpoint holds.

    torch compares the numbers of parameters only, and says which differ in no way.

    Args:
        wrapper: of the optimizer; other kinds of wrappers are left to MMEngine.
        model: the model, not wrapped, for the names.
        saved: ``checkpoint['optimizer']``; None if there is none, which is warned of.
        source: the checkpoint, for messages.

    Raises:
        ValueError: other groups of parameters, or other shapes; the message lists them.
    """
    if saved is None:
        print_log(f'{source} holds no state of an optimizer: it starts anew, and so the run does '
                  'not go on as it would have', 'current', logging.WARNING)
        return
    if not isinstance(wrapper, OptimWrapper) or 'param_groups' not in saved:
        return
    groups = wrapper.optimizer.param_groups
    then = [len(group['params']) for group in saved['param_groups']]
    now = [len(group['params']) for group in groups]
    if then != now:
        raise ValueError(
            f'expected an optimizer with {_sizes(now)}, as the config makes it, got the state of '
            f'one with {_sizes(then)}: {source}; the model, what is trained of it, or '
            'optim_wrapper.paramwise_cfg was another one')
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    parameters = [parameter for group in groups for parameter in group['params']]
    order = [index for group in saved['param_groups'] for index in group['params']]
    other = []
    for index, parameter in zip(order, parameters):
        for key in _SHAPED:
            value = saved['state'].get(index, {}).get(key)
            if isinstance(value, Tensor) and value.shape != parameter.shape:
                other.append(f'{names.get(id(parameter), index)}: expected '
                             f'{tuple(parameter.shape)}, got {tuple(value.shape)} in {key}')
                break
    if other:
        raise ValueError('\n'.join([
            f"the optimizer's state does not fit the model {type(model).__name__}: {source}",
            list_keys('other shape', other)]))


def _sizes(numbers: list[int]) -> str:
    if len(numbers) == 1:
        return f'{numbers[0]} parameters'
    return f'{sum(numbers)} parameters in {len(numbers)} groups'
