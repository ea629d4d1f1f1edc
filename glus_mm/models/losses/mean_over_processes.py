"""Losses of a batch that is spread over several processes."""

from collections.abc import Mapping

import torch
from mmengine.dist import all_reduce, get_world_size
from torch import Tensor


def mean_over_processes(losses: Mapping[str, Tensor], counts: Mapping[str, int]
                        ) -> dict[str, Tensor]:
    """Turn means over the items of this process into means over those of all processes.

    The means of processes with unequal numbers of items must not simply be averaged, which is what
    data parallelism does with their gradients. Each loss is therefore weighted by the process's
    share of the items. What is returned has the value of the mean over all processes, and the
    gradient that makes the *average* over the processes the gradient of that mean.

    Where that value is not finite, each process keeps its own, so that only the one whose batch is
    at fault reports it. Every process has to call it equally often; with one process it gives back
    what it got.

    Args:
        losses: scalars with the same names in every process.
        counts: how many items a loss is the mean of; one without a count is a quantity of which
            the processes' plain average is meant. A process without items has a loss of 0.
    """
    world_size = get_world_size()
    if world_size == 1:
        return dict(losses)
    values = torch.stack([loss.detach().double() for loss in losses.values()])
    items = values.new_tensor([counts.get(name, 1) for name in losses])
    sums = torch.stack([items, items * values])
    all_reduce(sums)
    total = sums[0].clamp(min=1)
    weights, means = items * world_size / total, sums[1] / total
    shared = {}
    for (name, loss), weight, mean in zip(losses.items(), weights, means):
        own = loss * weight.to(loss.dtype)
        value = torch.where(mean.isfinite(), mean.to(loss.dtype), own.detach())
        shared[name] = own + (value - own.detach())
    return shared
