"""A selector from the weights of GLUS."""

import pytest
import torch

from glus_mm.apis import init_model
from glus_mm.conversion.selector import selector_state
from programs import ROOT

CONFIG = ROOT / 'configs' / 'selectors' / 'key-frame-selector_tiny_moving-shapes.py'
GLUS = ROOT / 'configs' / 'glus' / 'glus_tiny_moving-shapes.py'


@pytest.fixture(scope='module')
def glus():
    torch.manual_seed(1)
    return init_model(GLUS)


@pytest.fixture(scope='module')
def selector():
    torch.manual_seed(2)
    return init_model(CONFIG)


def test_the_mllm_is_kept_and_gets_a_row(glus, selector):
    state = selector_state(glus.state_dict(), selector, 'here')
    selector.load_state_dict(state)
    assert len(selector.mllm.tokenizer) == len(glus.mllm.tokenizer) + 1
    for name, value in glus.state_dict().items():
        if not name.startswith('mllm.') or name.startswith('mllm.seg_projector.'):
            continue
        if len(state[name]) == len(value):
            assert torch.equal(state[name], value)
        else:
            assert name in ('mllm.llm.embed_tokens.weight', 'mllm.lm_head.weight')
            assert torch.equal(state[name][:-1], value)
            torch.testing.assert_close(state[name][-1], value.mean(0))
    assert not any(name.startswith('mask_head') for name in state)
    assert torch.equal(state['score.weight'], selector.score.weight)


def test_weights_of_another_size(glus, selector):
    state = glus.state_dict()
    del state['mllm.projector.bias']
    state['mllm.lm_head.weight'] = state['mllm.lm_head.weight'][:, :8]
    with pytest.raises(ValueError, match=r'(?s)here does not fit.*lm_head.*projector\.bias'):
        selector_state(state, selector, 'here')


def test_the_command(call_tool, glus, tmp_path):
    """Its file starts a training (strictly) and is the untrained selector."""
    torch.save(dict(state_dict=glus.state_dict()), tmp_path / 'glus.pth')
    tool = ROOT / 'tools' / 'model_converters' / 'glus2selector.py'
    status, _, error = call_tool(tool, tmp_path / 'glus.pth', CONFIG, tmp_path / 'start.pth')
    assert status == 0, error
    model = init_model(CONFIG, tmp_path / 'start.pth')
    assert torch.equal(model.mllm.projector.weight, glus.mllm.projector.weight)
