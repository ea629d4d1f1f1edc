"""Models that are built without weights and filled later are those that were built with them."""

import math

import pytest
import torch
from torch import nn

from glus_mm.utils.empty_weights import (
    build_empty,
    fill_weights,
    keeps_types,
)

CPU = torch.device('cpu')


class Net(nn.Module):
    """Tied and frozen parameters, a buffer in the state dict and one outside."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(5, 4)
        self.mid = nn.Linear(4, 4)
        self.head = nn.Linear(4, 5, bias=False)
        self.head.weight = self.embed.weight
        self.mid.bias.requires_grad_(False)
        self.norm = nn.BatchNorm1d(4)
        self.register_buffer('angles', torch.linspace(0, math.pi, 4), persistent=False)

    def forward(self, ids):
        return self.head(self.norm(self.mid(self.embed(ids))) * self.angles.cos())


@pytest.fixture
def full():
    torch.manual_seed(0)
    net = Net()
    net.norm.running_mean.normal_()
    return net


def test_the_filled_model_is_the_one_that_was_built_with_weights(full):
    net = build_empty(Net)
    assert all(p.is_meta for p in net.parameters()) and not net.angles.is_meta
    fill_weights(net, dict(full.state_dict()), CPU)
    ids = torch.arange(5)
    assert torch.equal(net.eval()(ids), full.eval()(ids))
    assert [(n, p.requires_grad, p.dtype) for n, p in net.named_parameters()] == \
        [(n, p.requires_grad, p.dtype) for n, p in full.named_parameters()]
    assert torch.equal(net.angles, full.angles)
    assert all(isinstance(p, nn.Parameter) and p.is_leaf for p in net.parameters())
    assert not isinstance(net.norm.running_mean, nn.Parameter)
    net = build_empty(Net)
    fill_weights(net, dict(full.state_dict()), CPU)
    assert net.head.weight is net.embed.weight and net.mid.weight is not net.mid.bias
    assert len(list(net.parameters())) == len(list(full.parameters()))
    net.embed.weight.data.zero_()
    assert not net.head.weight.any()
    assert full.embed.weight.any()


def test_memory_of_their_own(full):
    state = dict(full.state_dict())
    source = dict(state)
    net = build_empty(Net)
    fill_weights(net, state, CPU)
    assert not state, 'what was filled in is let go at once'
    with torch.no_grad():
        for value in net.state_dict().values():
            value.zero_()
    assert source['mid.weight'].any() and source['norm.running_mean'].any()
    # Such as weights of a model with tied embeddings in a model that has both.
    weight = torch.rand(4, 4)
    state = {'0.weight': weight, '1.weight': weight, '0.bias': weight[0], '1.bias': weight[1]}
    net = build_empty(lambda: nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)))
    assert not keeps_types(net, state)
    fill_weights(net, dict(state), CPU)
    net[0].weight.data.zero_()
    assert torch.equal(net[1].weight, weight) and torch.equal(net[0].bias, weight[0])


def test_types_and_memory(full):
    state = {'weight': torch.rand(4, 4).bfloat16(), 'bias': torch.rand(4).double()}
    net = build_empty(lambda: nn.Linear(4, 4))
    assert not keeps_types(net, state)
    fill_weights(net, dict(state), CPU, copy=False)
    assert torch.equal(net.weight, state['weight'].float())
    assert torch.equal(net.bias, state['bias'].float())
    assert {p.dtype for p in net.parameters()} == {torch.float32}
    state = {'weight': torch.rand(4, 4), 'bias': torch.rand(4), 'more': torch.rand(2).double()}
    net = build_empty(lambda: nn.Linear(4, 4))
    assert keeps_types(net, state)
    assert not keeps_types(net, dict(state, bias=torch.rand(8)[:4])), 'keeps 4 more numbers'
    assert not keeps_types(net, dict(state, weight=torch.rand(4, 4).T))
    fill_weights(net, dict(state), CPU, copy=False)
    assert net.weight.data_ptr() == state['weight'].data_ptr()
    weight = torch.rand(4, 4)
    net = build_empty(lambda: nn.Linear(4, 4, bias=False))
    fill_weights(net, {'weight': weight.T}, CPU)
    assert net.weight.is_contiguous() and torch.equal(net.weight, weight.T)


def test_what_stays_without_data_is_named():

    class Hiding(nn.Linear):

        def _save_to_state_dict(self, destination, prefix, keep_vars):
            super()._save_to_state_dict(destination, prefix, keep_vars)
            del destination[f'{prefix}bias']

        def _load_from_state_dict(self, *args):
            super()._load_from_state_dict(*args[:5], [], *args[6:])
            args[4].clear()

    net = build_empty(lambda: nn.Sequential(Hiding(2, 2)))
    with pytest.raises(ValueError, match=r'parts of Sequential have no data \(1\):\n  0\.bias'):
        fill_weights(net, {'0.weight': torch.zeros(2, 2)}, CPU)


def test_constructors(full):
    class Reading(nn.Linear):

        def __init__(self):
            super().__init__(2, 2)
            self.scale = self.weight.sum().item()

    net = build_empty(Reading)
    assert isinstance(net.scale, float) and not net.weight.is_meta
    fill_weights(net, {'weight': torch.ones(2, 2), 'bias': torch.ones(2)}, CPU)
    assert net.weight.sum() == 4
    def build():
        raise RuntimeError('no such layer')

    with pytest.raises(RuntimeError, match='no such layer'):
        build_empty(build)
    assert not nn.Linear(2, 2).weight.is_meta, 'nothing of building empty models is left behind'
