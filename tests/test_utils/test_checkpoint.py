"""LoRA models and checkpoints with and without adapters."""

import pytest
import torch
from peft import LoraConfig, inject_adapter_in_model
from torch import nn

from glus_mm.utils.checkpoint import adapt_lora, check_fit, model_state_of


class Attention(nn.Module):

    def __init__(self):
        super().__init__()
        self.q_proj, self.o_proj = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x):
        return self.o_proj(self.q_proj(x))


@pytest.fixture
def plain():
    torch.manual_seed(0)
    return nn.Sequential(Attention(), Attention())


@pytest.fixture
def lora():
    torch.manual_seed(1)
    model = nn.Sequential(Attention(), Attention())
    return inject_adapter_in_model(LoraConfig(r=2, target_modules=['q_proj']), model)


def test_weights_with_and_without_adapters(plain, lora):
    start = {key: value.clone() for key, value in lora.state_dict().items()}
    state = adapt_lora(lora, plain.state_dict(), 'plain.pth')
    assert check_fit(lora, state, 'plain.pth') == []
    lora.load_state_dict(state)
    x = torch.randn(3, 4)
    assert torch.equal(lora(x), plain(x)), 'B = 0: the same function'
    adapters = [key for key in start if 'lora_' in key]
    assert len(adapters) == 4
    for key in adapters:
        assert torch.equal(lora.state_dict()[key], start[key])
        assert start[key].any() == ('lora_A' in key)
    assert torch.equal(lora[1].q_proj.base_layer.bias, plain[1].q_proj.bias)
    state = {key: torch.full_like(value, 3) for key, value in lora.state_dict().items()}
    assert adapt_lora(lora, state, 'lora.pth') == state
    state = dict(plain.state_dict(), more=torch.zeros(1))
    assert adapt_lora(plain, state, 'plain.pth') == state


def test_adapters_that_do_not_fit(lora, plain):
    state = lora.state_dict()
    del state['1.q_proj.lora_B.default.weight']
    with pytest.raises(ValueError) as error:
        adapt_lora(lora, state, 'some.pth')
    lines = str(error.value).splitlines()
    assert lines[0] == ('the checkpoint has only some of the LoRA adapters of the model '
                        'Sequential: some.pth')
    assert lines[1:] == ['missing in the checkpoint (1):', '  1.q_proj.lora_B.default.weight']
    with pytest.raises(ValueError) as error:
        adapt_lora(plain, lora.state_dict(), 'lora.pth')
    text = str(error.value)
    for part in ('LoRA adapters that the model Sequential lacks: lora.pth',
                 'unknown to the model (4):\n  0.q_proj.lora_A.default.weight',
                 'model.mllm.lora', 'tools/misc/publish_model.py'):
        assert part in text
    state = dict(lora.state_dict(), **{'0.o_proj.lora_A.default.weight': torch.zeros(2, 4)})
    with pytest.raises(ValueError, match=r'\n  0\.o_proj\.lora_A\.default\.weight\n'):
        adapt_lora(lora, state, 'more.pth')


def test_what_is_missing_otherwise_stays_missing(plain, lora):
    state = plain.state_dict()
    del state['0.q_proj.weight']
    state = adapt_lora(lora, state, 'part.pth')
    with pytest.raises(ValueError, match=r'missing in the checkpoint \(1\):\n'
                                         r'  0\.q_proj\.base_layer\.weight'):
        check_fit(lora, state, 'part.pth')


@pytest.mark.parametrize('wrapped', [False, True])
def test_state_dict_in_a_checkpoint(plain, wrapped):
    state = plain.state_dict()
    checkpoint = {f'module.{key}': value for key, value in state.items()}
    checkpoint = dict(state_dict=checkpoint) if wrapped else checkpoint
    assert model_state_of(checkpoint, 'x.pth').keys() == state.keys()
