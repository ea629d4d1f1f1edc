"""Which parameters train, and config keys that nobody knows."""

import pytest
from torch import nn

from glus_mm.utils.modules import check_keys, is_trained, set_trainable


@pytest.fixture
def module():
    return nn.ModuleDict(dict(
        tower=nn.Linear(2, 2), head=nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1, bias=False))))


def trained(module):
    return {name for name, p in module.named_parameters() if p.requires_grad}


def test_patterns(module):
    set_trainable(module, ['head.*', '*.bias'])
    assert trained(module) == {'tower.bias', 'head.0.weight', 'head.0.bias', 'head.1.weight'}
    set_trainable(module, ['tower.weight'])
    assert trained(module) == {'tower.weight'}, 'what was frozen before can be trained again'
    before = trained(module)
    with pytest.raises(ValueError, match=r"'hed\.\*' matches no parameter of ModuleDict.*"
                                         r"\['head', 'tower'\]"):
        set_trainable(module, ['tower.*', 'hed.*'])
    assert trained(module) == before


def test_none_and_an_empty_list(module):
    module['tower'].weight.requires_grad_(False)
    before = trained(module)
    set_trainable(module, None)
    assert trained(module) == before
    set_trainable(module, [])
    assert trained(module) == set()


def test_trained_and_known(module):
    set_trainable(module, ['head.*'])
    assert is_trained(module) and is_trained(module['head'])
    assert not is_trained(module['tower'])
    assert is_trained(module['tower'], module['head'])
    values = dict(a=1)
    assert check_keys(values, ['a', 'b'], 'model.x') is values
    with pytest.raises(TypeError, match=r"model\.x got unexpected keys \['c'\].*\['a', 'b'\]"):
        check_keys(dict(a=1, c=2), ['b', 'a'], 'model.x')
