"""Gradients of forward passes that differ are done in one order."""

import torch
from torch import nn

from glus_mm.engine.zero_optim_wrapper import ZeroOptimWrapper


class Chain(nn.Module):
    """Runs its layers in the order that it is told."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 3, dtype=torch.bfloat16)
        self.c, self.frozen = nn.Linear(3, 3), nn.Linear(3, 3).requires_grad_(False)

    def forward(self, layers):
        x = torch.ones(2, 3, requires_grad=True)
        for layer in layers:
            layer = getattr(self, layer)
            x = layer(x.to(layer.weight.dtype)).float()
        return x.sum()


class Engine:
    """What of DeepSpeed's engine a backward pass needs."""

    def backward(self, loss):
        loss.backward()


def test_every_parameter_gets_its_gradient_at_the_same_place():
    """Whatever part of the model a pass runs, how often and in which order."""
    model = Chain()
    wrapper = ZeroOptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1))
    wrapper.model = Engine()
    names = [name for name, p in model.named_parameters() if p.requires_grad]
    done = []
    for name in names:
        model.get_parameter(name).register_post_accumulate_grad_hook(
            lambda _, name=name: done.append(name))
    passes = [['a', 'b', 'c'], ['c', 'frozen', 'b', 'a'], ['b', 'a', 'b'], ['frozen'], []]
    expected = []
    for layers in passes:
        model.zero_grad()
        model(layers).backward()
        expected.append([model.get_parameter(name).grad for name in names])
    assert done[:len(names)] != done[len(names):2 * len(names)], 'the passes do not differ'
    model.register_forward_pre_hook(wrapper.order_gradients)
    for layers, grads in zip(passes, expected):
        done.clear()
        model.zero_grad()
        wrapper.backward(model(layers))
        assert done == names[::-1]
        for name, grad in zip(names, grads):
            found = model.get_parameter(name).grad
            assert torch.equal(found, torch.zeros_like(found) if grad is None else grad)
    with torch.no_grad():
        model(['a'])
