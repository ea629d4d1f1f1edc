"""model.dtype: which parameter has which type, and that the numbers hardly notice."""

import copy
import subprocess
import sys

import pytest
import torch
from official_order import OFFICIAL
from torch import nn
from torch.nn import functional as F

from glus_mm.models.inference import ArrayReader
from glus_mm.registry import MODELS, build_child
from glus_mm.utils.precision import default_dtype, dtype_of, is_adapter, set_precision
from programs import ROOT

# What the paper trains: adapters, embeddings, output layer, projectors and the mask decoder.
LORA = {'mllm.lora': dict(r=2, dropout=0.0),
        'mllm.trainable': ['llm.*lora_*', 'llm.embed_tokens.*', 'lm_head.*', 'projector.*',
                           'seg_projector.*'],
        'mask_head.trainable': ['sam2.sam_mask_decoder.*'], 'mask_head.detach_memory': True}
FROZEN = {'mllm.trainable': [], 'mask_head.trainable': []}
# Each of these puts two types next to each other in another place.
MIXED = {
    'lora': LORA,
    'last layer, memory encoder': {
        'mllm.trainable': ['llm.layers.1.*'], 'mask_head.trainable': ['sam2.memory_encoder.*']},
    'first layer, memory attention, a part of the decoder': {
        'mllm.trainable': ['llm.layers.0.*'],
        'mask_head.trainable': ['sam2.memory_attention.*',
                                'sam2.sam_mask_decoder.transformer.*']},
    'biases': {'mllm.trainable': ['*.bias'], 'mask_head.trainable': ['*.bias']},
    'queries, layer scale': {
        'mllm.trainable': ['llm.*.q_proj.*'], 'mask_head.trainable': ['*.gamma']},
    'norm, single parameters, neck': {
        'mllm.trainable': ['llm.norm.*'],
        'mask_head.trainable': ['sam2.no_mem_embed', 'sam2.image_encoder.neck.*']},
    'tower, prompt encoder': {
        'mllm.trainable': ['vision_tower.*'],
        'mask_head.trainable': ['sam2.sam_prompt_encoder.*']},
}
ROPES = {
    'default': dict(rope_theta=5e5),
    'linear': dict(factor=4.0, rope_theta=1e4),
    'dynamic': dict(factor=2.0, rope_theta=1e4),
    'yarn': dict(factor=4.0, rope_theta=1e4, original_max_position_embeddings=256),
    'llama3': dict(factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, rope_theta=5e5,
                   original_max_position_embeddings=256),
}


@pytest.fixture(scope='module')
def video(video):
    """Five frames are enough for memories at both distances."""
    return video[:5]


@pytest.fixture(scope='module')
def build(tiny_cfg):
    """``build(options, dtype)``: a small GLUS as its config makes it; equal calls, equal model."""

    def make(options=None, dtype='float32'):
        torch.manual_seed(0)
        return build_child(MODELS, tiny_cfg(dict(options or {}, dtype=dtype)))

    return make


@pytest.fixture(scope='module')
def pair(build, emit_seg, video):
    """``pair(options, dtype)``: a mixed model that says [SEG], and one with its very weights
    in float32.
    """

    def make(options, dtype='bfloat16'):
        full = emit_seg(build(options).eval(), video)
        mixed = build(options, dtype).eval()
        mixed.load_state_dict(full.state_dict())
        full.load_state_dict(mixed.state_dict())
        return mixed, full

    return make


def run(model, video, sample):
    """Low-resolution logits (E, T, h, w) of all frames, forward and backward from frame 3."""
    session = model.init_session(ArrayReader(video), sample)
    out = {t: pred for t, _, pred in model.segment(session, [3] * len(sample))}
    assert all(pred.is_seg.all() for pred in out.values())
    return torch.stack([out[t].low_res_logits for t in range(len(video))], 1)


def close(mixed, full, dtype='bfloat16'):
    """Up to a tenth of the spread, as half precision and frames of memory add up; mostly less."""
    atol = full.std().item() * (0.12 if dtype == 'bfloat16' else 0.03)
    torch.testing.assert_close(mixed, full, rtol=0, atol=atol)
    both, any_ = ((mixed > 0) & (full > 0)).sum(), ((mixed > 0) | (full > 0)).sum()
    assert both / any_ > 0.98


def step(model, batch):
    """Losses and gradients of a training step."""
    losses = model(*batch, mode='loss')
    model.zero_grad()
    model.parse_losses(losses)[0].backward()
    return losses, {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize('dtype', ['bfloat16', 'float16'])
def test_lora_training_keeps_what_is_trained_in_float32(build, dtype):
    model = build(LORA, dtype)
    for name, p in model.named_parameters():
        assert p.dtype == (torch.float32 if p.requires_grad else getattr(torch, dtype)), name
    trained = {name.split('.')[1] if name.startswith('mllm') else name.split('.')[2]
               for name, p in model.named_parameters() if p.requires_grad}
    assert trained == {'llm', 'lm_head', 'projector', 'seg_projector', 'sam_mask_decoder'}
    assert all(b.dtype in (torch.float32, torch.int64) for b in model.buffers())


def test_frozen_models_and_the_default(build, tiny_cfg):
    model = build(FROZEN, 'bfloat16')
    assert {(p.dtype, p.requires_grad) for p in model.parameters()} == {(torch.bfloat16, False)}
    adapters = build(dict(FROZEN, **{'mllm.lora': dict(r=2)}), 'bfloat16')
    assert {p.dtype for p in adapters.parameters()} == {torch.bfloat16}
    torch.manual_seed(0)
    plain = build_child(MODELS, tiny_cfg(LORA)).state_dict()
    model = build(LORA, 'float32')
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert all(torch.equal(value, plain[name]) for name, value in model.state_dict().items())
    mllm = copy.deepcopy(build(FROZEN).mllm)
    torch.manual_seed(0)
    model = build_child(MODELS, dict(tiny_cfg(dict(FROZEN, dtype='bfloat16')), mllm=mllm))
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize('dtype', ['float64', 'half', torch.float16])
def test_other_types_are_refused(build, dtype):
    with pytest.raises(ValueError, match=r"model\.dtype must be one of \('float32', 'bfloat16', "):
        build({}, dtype)
    assert torch.get_default_dtype() == torch.float32


def tables(model):
    """Constants that the model computes with and does not learn."""
    out = dict(model.named_buffers())
    for name, module in model.named_modules():
        if hasattr(module, 'freqs_cis'):
            out[f'{name}.freqs_cis'] = module.freqs_cis
        for size, value in getattr(module, 'cache', {}).items():
            out[f'{name}.cache.{size}'] = value
    out['dense_pe'] = model.mask_head._dense_pe()
    return out


@pytest.mark.parametrize('rope', ROPES)
def test_constants_are_those_of_a_float32_model(build, video, make_sample, rope):
    llm = dict(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64,
               max_position_embeddings=1024, rope_parameters=dict(ROPES[rope], rope_type=rope))
    found = []
    for dtype in ('float32', 'bfloat16'):
        model = build({'mllm.llm': llm, **FROZEN}, dtype).eval()
        model.mask_head.sam2.memory_encoder.position_encoding(torch.zeros(1, 1, 4, 4))
        model.mask_head.extract_feat(torch.zeros(1, 3, 64, 64))
        found.append(tables(model))
    full, half = found
    assert set(full) == set(half)
    for part in ('inv_freq', 'positional_encoding_gaussian_matrix', 'freqs_cis', 'cache',
                 'position_ids', 'sam_mean'):
        assert any(part in name for name in full), part
    for name, value in full.items():
        assert value.dtype == half[name].dtype and torch.equal(value, half[name]), name


@pytest.mark.parametrize(('dtype', 'propagator'), [
    ('bfloat16', None), ('bfloat16', OFFICIAL), ('float16', None)])
def test_inference_in_half_precision(pair, video, make_sample, dtype, propagator):
    mixed, full = pair(dict(FROZEN, **{'test_cfg.propagator': propagator}), dtype)
    logits = run(mixed, video, make_sample())
    assert logits.dtype == torch.float32
    close(logits, run(full, video, make_sample()), dtype)


def test_masks_are_upsampled_in_float32(pair, video, make_sample):
    mixed, _ = pair(FROZEN)
    session = mixed.init_session(ArrayReader(video), make_sample())
    for _, pred in zip(range(2), mixed.propagate(session, [0, 1, 2])):
        logits, scores = pred[1].low_res_logits, pred[1].scores
        assert logits.dtype == scores.dtype == torch.float32
        assert torch.equal(logits, logits.bfloat16().float()), 'the decoder runs in bfloat16'
        full = F.interpolate(logits[:, None], video[0].shape[:2], mode='bilinear')[:, 0]
        assert torch.equal(pred[1].masks, full > 0)


@pytest.mark.parametrize('options', MIXED.values(), ids=MIXED)
def test_neighbours_of_other_types_work_together(pair, video, make_sample, make_batch, options):
    """Without autocast; losses and all gradients agree with those of float32."""
    mixed, full = pair(options)
    assert {p.dtype for p in mixed.parameters()} == {torch.float32, torch.bfloat16}
    assert all(p.dtype == torch.float32 for p in mixed.parameters() if p.requires_grad)
    close(run(mixed, video, make_sample()), run(full, video, make_sample()))
    videos = [(video, ['a star', 'x'], [0, 2], range(4))]
    results = []
    for model in (mixed.train(), full.train()):
        results.append(step(model, make_batch(model, videos)))
    (losses, grads), (expected, others) = results
    assert {value.dtype for value in losses.values()} == {torch.float32}
    for name, value in expected.items():
        torch.testing.assert_close(losses[name], value, rtol=0.02, atol=1e-3)
    assert grads.keys() == others.keys() and grads
    large = max(grad.norm() for grad in others.values())
    for name, grad in grads.items():
        assert grad.dtype == torch.float32 and grad.isfinite().all()
        if others[name].norm() > 1e-7 * large:
            assert F.cosine_similarity(grad.flatten(), others[name].flatten(), 0) > 0.98, name


@pytest.mark.parametrize('options', ['lora', 'last layer, memory encoder', 'biases'])
def test_autocast_goes_on_working(pair, video, make_sample, make_batch, options):
    mixed, full = pair(MIXED[options])
    with torch.autocast('cpu', torch.bfloat16):
        logits = run(mixed, video, make_sample())
    close(logits, run(full, video, make_sample()))
    batch = make_batch(mixed, [(video, ['a star'], [0, 2], range(4))])
    with torch.autocast('cpu', torch.bfloat16):
        losses = mixed.train()(*batch, mode='loss')
    mixed.parse_losses(losses)[0].backward()
    assert all(value.isfinite() and value.dtype == torch.float32 for value in losses.values())


def test_training_and_testing_have_the_same_precision(pair, video, make_sample, make_batch):
    """The frames that a training step sees get the masks that testing gives them, bit for bit but
    for what another batch shape rounds.
    """
    mixed, full = pair(dict(LORA, **{'test_cfg.memory_stride': 1}))
    sample = make_sample()
    session = mixed.init_session(ArrayReader(video), sample)
    context = session.context_frame_ids
    tested = torch.stack([pred.low_res_logits for _, (_, pred) in zip(
        range(4), mixed.propagate(session, [0, 1, 2]))], 1)
    batch = make_batch(mixed, [(video, sample.expressions, context, range(4))])
    with torch.no_grad():
        taught = mixed._forward(batch[0])[0]
        exact = full._forward(make_batch(full, [(video, sample.expressions, context,
                                                 range(4))])[0])[0]
    assert (taught - tested).abs().mean() < (taught - exact).abs().mean()
    close(taught, tested)


@pytest.mark.parametrize('checkpointing', [False, True])
def test_optimizer_moves_what_is_trained(pair, video, make_batch, checkpointing):
    model, _ = pair(dict(LORA, **{'mllm.gradient_checkpointing': checkpointing}))
    model.train()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 1e-3)
    step(model, make_batch(model, [(video, ['a star'], [0, 2], range(4))]))
    optimizer.step()
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert moved and all(model.get_parameter(name).requires_grad for name in moved)
    assert any('lora_B' in name for name in moved) and any('embed_tokens' in n for n in moved)


@pytest.mark.slow
def test_a_large_model_is_never_held_in_float32():
    """Peak memory of a process that builds 105 M parameters in bfloat16: less than twice that."""
    code = '''
import resource, torch
from mmengine import Config
from glus_mm.registry import MODELS, build_child
model = Config.fromfile('configs/_base_/models/glus_tiny.py').model.to_dict()
build_child(MODELS, model)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
model['mllm']['llm'] = dict(hidden_size=1024, num_hidden_layers=8, num_attention_heads=8,
                            intermediate_size=2816)
model['mllm']['trainable'] = model['mask_head']['trainable'] = []
built = build_child(MODELS, dict(model, dtype='bfloat16'))
size = sum(p.nbytes for p in built.parameters())
print(size, 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before))
'''
    out = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True,
                         check=True)
    size, peak = map(int, out.stdout.split()[-2:])
    assert size > 2e8 and peak < 1.5 * size


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
    module.base_layer = nn.Linear(2, 2, dtype=torch.bfloat16)
    assert dtype_of(module) == torch.bfloat16
    module = nn.Linear(3, 3, device='meta').requires_grad_(False)
    module.count = nn.Parameter(torch.ones(2, dtype=torch.long), requires_grad=False)
    set_precision(module, torch.bfloat16)
    assert module.weight.is_meta and module.weight.dtype == torch.bfloat16
    assert module.count.dtype == torch.long


def test_a_part_computes_in_one_type():
    """All of a part is float32 where some of it is trained, and its adapters wherever it is not."""
    module = nn.ModuleDict(dict(a=nn.Linear(3, 3), b=nn.Linear(3, 3))).requires_grad_(False)
    module['a'].bias.requires_grad_(True)
    with default_dtype(torch.bfloat16):
        module['b'].lora_A = nn.Linear(3, 1, bias=False)
    set_precision(module, torch.bfloat16, module.values())
    assert {name: parameter.dtype for name, parameter in module.named_parameters()} == {
        'a.weight': torch.float32, 'a.bias': torch.float32, 'b.lora_A.weight': torch.float32,
        'b.weight': torch.bfloat16, 'b.bias': torch.bfloat16}
