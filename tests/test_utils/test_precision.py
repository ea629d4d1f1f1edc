"""Types of parameters: what is trained is float32, what is frozen has the type asked for."""

import pytest
import torch
from torch import nn

from glus_mm.utils.precision import (
    DTYPES,
    at_least_float32,
    default_dtype,
    dtype_of,
    is_adapter,
    parse_dtype,
    set_precision,
)

HALF = torch.bfloat16


@pytest.fixture
def module():
    """Two parts and a lone parameter; all is frozen but the first part's bias."""
    torch.manual_seed(0)
    module = nn.Module()
    module.a, module.b = nn.Linear(3, 3), nn.Linear(3, 3)
    module.lone = nn.Parameter(torch.rand(2))
    module.register_buffer('table', torch.rand(2) + 1 / 3)
    module.requires_grad_(False)
    module.a.bias.requires_grad_(True)
    return module


def types(module):
    return {name: parameter.dtype for name, parameter in module.named_parameters()}


def test_types():
    assert [parse_dtype(name, 'model.dtype') for name in DTYPES] == [
        torch.float32, torch.bfloat16, torch.float16]
    before = torch.get_default_dtype()
    with pytest.raises(KeyError), default_dtype(HALF):
        assert nn.Linear(2, 2).weight.dtype == HALF
        raise KeyError
    assert torch.get_default_dtype() == before
    for dtype, expected in ((HALF, torch.float32), (torch.float16, torch.float32),
                            (torch.float32, torch.float32), (torch.float64, torch.float64)):
        assert at_least_float32(torch.zeros(2, dtype=dtype)).dtype == expected
    tensor = torch.zeros(2, dtype=torch.float64)
    assert at_least_float32(tensor) is tensor


@pytest.mark.parametrize('name', ['float64', 'bf16', '', None, 16, torch.bfloat16])
def test_other_types_are_refused_with_a_list(name):
    with pytest.raises(ValueError, match=r"model\.dtype must be one of \('float32', 'bfloat16', "
                                         r"'float16'\), got "):
        parse_dtype(name, 'model.dtype')


@pytest.mark.parametrize(('name', 'expected'), [
    ('q_proj.lora_A.default.weight', True), ('lora_embedding_B.default', True),
    ('q_proj.base_layer.weight', False), ('explora_head.weight', False)])
def test_names_of_adapters(name, expected):
    assert is_adapter(name) is expected


def test_odd_parameters():
    module = nn.Module()
    module.lora_A = nn.Linear(2, 2)
    module.count = nn.Parameter(torch.ones(2, dtype=torch.long), requires_grad=False)
    with pytest.raises(ValueError, match='floating-point parameters'):
        dtype_of(module)
    module.base_layer = nn.Linear(2, 2, dtype=HALF)
    assert dtype_of(module) == HALF
    module = nn.Linear(3, 3, device='meta').requires_grad_(False)
    module.count = nn.Parameter(torch.ones(2, dtype=torch.long), requires_grad=False)
    set_precision(module, HALF)
    assert module.weight.is_meta and module.weight.dtype == HALF
    assert module.count.dtype == torch.long


def test_trained_parameters_are_float32_and_buffers_stay(module):
    values = {name: value.clone() for name, value in module.state_dict().items()}
    set_precision(module, HALF)
    assert types(module) == {'lone': HALF, 'a.weight': HALF, 'a.bias': torch.float32,
                             'b.weight': HALF, 'b.bias': HALF}
    assert torch.equal(module.table, values['table'])
    assert torch.equal(module.b.weight, values['b.weight'].to(HALF))
    assert module.a.bias.requires_grad and not module.lone.requires_grad


def test_a_part_computes_in_one_type(module):
    set_precision(module, HALF, [module.a, module.b])
    assert types(module) == {'lone': HALF, 'a.weight': torch.float32, 'a.bias': torch.float32,
                             'b.weight': HALF, 'b.bias': HALF}
    with default_dtype(HALF):
        layer = nn.Linear(3, 3)
    set_precision(layer, HALF, [layer])
    assert dtype_of(layer) == torch.float32
    module.b.lora_A = nn.Linear(3, 1, dtype=HALF)
    set_precision(module, HALF, [module.b])
    assert types(module.b) == {'weight': HALF, 'bias': HALF, 'lora_A.weight': torch.float32,
                               'lora_A.bias': torch.float32}
