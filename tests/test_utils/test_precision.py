"""Types of parameters: what is trained is float32, what is frozen has the type asked for."""

import pytest
import torch
from torch import nn

from glus_mm.utils.precision import default_dtype, dtype_of, is_adapter, set_precision

HALF = torch.bfloat16


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


def test_a_part_computes_in_one_type():
    """All of a part is float32 where some of it is trained, and its adapters wherever it is not."""
    module = nn.ModuleDict(dict(a=nn.Linear(3, 3), b=nn.Linear(3, 3))).requires_grad_(False)
    module['a'].bias.requires_grad_(True)
    with default_dtype(HALF):
        module['b'].lora_A = nn.Linear(3, 1, bias=False)
    set_precision(module, HALF, module.values())
    assert {name: parameter.dtype for name, parameter in module.named_parameters()} == {
        'a.weight': torch.float32, 'a.bias': torch.float32, 'b.weight': HALF, 'b.bias': HALF,
        'b.lora_A.weight': torch.float32}
