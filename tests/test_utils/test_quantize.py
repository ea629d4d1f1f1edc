"""The LLM in 8 or 4 bits, through the real bitsandbytes on a CPU."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from glus_mm.apis import GLUSInferencer, init_model
from glus_mm.cli import main
from glus_mm.datasets.moving_shapes import generate_video, write_split
from glus_mm.utils import quantize
from glus_mm.utils.quantize import quantize_linear, quantize_llm
from programs import ROOT

MODEL = (ROOT / 'configs/glus/glus_tiny_moving-shapes.py',
         ROOT / 'checkpoints/glus_tiny_moving-shapes.pth')
FROZEN = {'model.mllm.trainable': [], 'model.mask_head.trainable': []}
NAMES = {4: 'Linear4bit', 8: 'Linear8bitLt'}


@pytest.fixture(autouse=True)
def needs_bitsandbytes():
    pytest.importorskip('bitsandbytes', reason='needs the extra "quant"')


@pytest.mark.parametrize(('bits', 'least', 'most'), [(4, 0.01, 0.15), (8, 0.0005, 0.02)])
@pytest.mark.parametrize('bias', [False, True])
@torch.no_grad()
def test_a_layer(bits, least, most, bias):
    torch.manual_seed(0)
    layer = nn.Linear(128, 64, bias=bias).requires_grad_(False).eval()
    x = torch.randn(3, 5, 128)
    exact = layer(x)
    new = quantize_linear(layer, bits)
    assert type(new).__name__ == NAMES[bits] and not new.training
    assert layer.weight.numel() == 0, 'both never stand side by side for long'
    assert new.weight.numel() * new.weight.element_size() == 128 * 64 * bits // 8
    assert not new.weight.requires_grad and (new.bias is layer.bias)
    out = new(x)
    assert out.dtype == torch.float32 and out.shape == exact.shape
    assert least < (out - exact).norm() / exact.norm() < most


@pytest.fixture(scope='module')
def frames():
    return list(generate_video(0, 'valid_u', 0).frames[:4])


def segment(model, frames):
    # Objects that are there: each frame has its [SEG].
    texts = [item.text for item in generate_video(0, 'valid_u', 0).expressions
             if item.kind in ('appearance', 'position')][:2]
    model.test_cfg = replace(model.test_cfg, seg_threshold=None)
    out = GLUSInferencer(model)(frames, texts, return_logits=True)
    return np.stack([[np.asarray(mask) for mask in rows] for rows in out['masks']]), out


@pytest.mark.parametrize('bits', [4, 8])
def test_a_model(frames, bits):
    exact = init_model(*MODEL)
    model = init_model(*MODEL, cfg_options={'model.test_cfg.llm_bits': bits, **FROZEN})
    assert type(model.mllm.llm.layers[0].mlp.up_proj).__name__ == NAMES[bits]
    expected, first = segment(exact, frames)
    masks, out = segment(model, frames)
    linear = {name: module for name, module in model.mllm.llm.layers.named_modules()
              if isinstance(module, nn.Linear)}
    assert {type(module).__name__ for module in linear.values()} == {NAMES[bits]}
    assert len(linear) == 7 * len(model.mllm.llm.layers)
    assert type(model.mllm.lm_head) is nn.Linear
    assert torch.equal(model.mllm.lm_head.weight, exact.mllm.lm_head.weight)
    tokens = [np.stack([np.stack(rows) for rows in o['seg_tokens']]) for o in (first, out)]
    error = np.linalg.norm(tokens[1] - tokens[0]) / np.linalg.norm(tokens[0])
    assert 1e-5 < error < (0.2 if bits == 4 else 0.05)
    assert (expected & masks).sum() / (expected | masks).sum() > 0.8
    again, _ = segment(model, frames)
    assert (again == masks).all(), 'the second video finds them as they are'


def test_sixteen_changes_nothing(frames):
    model = init_model(*MODEL, cfg_options={'model.test_cfg.llm_bits': 16})
    masks, _ = segment(model, frames)
    assert (masks == segment(init_model(*MODEL), frames)[0]).all()
    assert type(model.mllm.llm.layers[0].mlp.up_proj) is nn.Linear


@pytest.mark.parametrize(('options', 'name'), [
    ({}, 'embed_tokens.weight'),
    ({'model.mllm.lora': dict(r=4, alpha=8), 'model.mllm.trainable': ['llm.*.lora_*']},
     r'layers\.0\.self_attn\.q_proj\.lora_A')])
def test_what_is_trained_is_not_quantized(options, name):
    with pytest.raises(ValueError, match=r'llm_bits=8 is for inference only: expected '
                       r'model\.mllm\.trainable=\[\], got \d+ parameters .* such as '
                       rf'mllm\.llm\.{name}'):
        init_model(*MODEL, cfg_options={'model.test_cfg.llm_bits': 8, **options})


def test_adapters_stay(frames):
    model = init_model(*MODEL, cfg_options={
        'model.mllm.lora': dict(r=4, alpha=8, dropout=0.0), **FROZEN})
    quantize_llm(model, 4)
    layer = model.mllm.llm.layers[0].self_attn.q_proj
    assert type(layer.base_layer).__name__ == 'Linear4bit'
    assert type(layer.lora_A['default']) is nn.Linear
    assert segment(model, frames)[1]['is_seg'].all()


def test_bitsandbytes_is_missing(tmp_path, monkeypatch, capsys):
    write_split(tmp_path, 1, 0, 'valid_u')
    video = next((tmp_path / 'valid_u').rglob('*.mp4'))
    monkeypatch.setattr(quantize.importlib.util, 'find_spec', lambda name: None)
    assert main(['segment', str(video), '--text', 'a star', '--out-dir', str(tmp_path / 'out'),
                 '--cfg-options', 'model.test_cfg.llm_bits=4', 'model.mllm.trainable=[]']) == 2
    assert capsys.readouterr().err == (
        'glus-mm segment: error: model.test_cfg.llm_bits=4 needs bitsandbytes: '
        'pip install "glus_mm[quant]"\n')
    assert not any((tmp_path / 'out').iterdir())
