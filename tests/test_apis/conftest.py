"""The tiny model, smaller still, with weights that generate [SEG] where a test wants it."""

import numpy as np
import pytest
import torch

from glus_mm.apis import GLUSInferencer, init_model
from programs import ROOT

SMALLER = {
    'model.mllm.llm.num_hidden_layers': 1,
    'model.mllm.vision_tower.num_hidden_layers': 1,
    'model.mask_head.sam2.d_model': 64,
    'model.test_cfg.window': 3,
}


@pytest.fixture(scope='session')
def tiny_config():
    """Path of a shipped config and the options that make its model smaller."""
    return ROOT / 'configs' / '_base_' / 'models' / 'glus_tiny.py', SMALLER


@pytest.fixture(scope='session')
def frames():
    """Five frames (48, 64): a box that moves over noise."""
    rng = np.random.default_rng(0)
    video = rng.integers(60, 120, (5, 48, 64, 3)).astype(np.uint8)
    for t, frame in enumerate(video):
        frame[10:26, 4 + 8 * t:20 + 8 * t] = (220, 30, 40)
    return list(video)


def hidden_states(model, video, texts):
    """Hidden states (T, E, D) that predict the next token while a video is segmented."""
    seen = []
    hook = model.mllm.lm_head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    GLUSInferencer(model)(video, texts)
    hook.remove()
    return torch.stack(seen)


def say_seg_along(model, direction):
    """[SEG] is generated where the hidden state points along ``direction`` (D), else <unk>."""
    weight = model.mllm.lm_head.weight.data
    weight.zero_()
    weight[model.mllm.tokenizer.seg_id] = direction


@pytest.fixture(scope='session')
def model(tiny_config, frames):
    """A model with random weights that generates [SEG] on every frame; not to be changed."""
    config, options = tiny_config
    torch.manual_seed(0)
    model = init_model(config, cfg_options=options)
    say_seg_along(model, hidden_states(model, frames, ['the red box']).mean((0, 1)))
    return model


@pytest.fixture(scope='session')
def half_deaf(tiny_config, frames):
    """A model that generates [SEG] for 'the red box' and never for 'the sky'."""
    config, options = tiny_config
    torch.manual_seed(0)
    model = init_model(config, cfg_options=options)
    states = hidden_states(model, frames, ['the red box', 'the sky']).mean(0)
    say_seg_along(model, states[0] - states[1])
    return model
