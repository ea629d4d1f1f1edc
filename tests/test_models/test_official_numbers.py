"""Official weights give the official numbers, in testing and in a training step.

The fixture holds what the official code computed on a tiny model with random weights. Its weights
are put into a GLUS of the same sizes here by renaming; nothing is converted. Tolerances are those
that the noise of the fixture allows.
"""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from glus_mm.models.inference import open_reader
from glus_mm.models.mllms.tokenizer import SegTokenizer
from glus_mm.registry import MODELS, build_child
from glus_mm.structures import RefVOSDataSample
from glus_mm.utils.image import read_image, sam2_image, vision_tower_image

REPO = Path(__file__).resolve().parents[2]
SHARED = Path(os.environ.get('GLUS_MM_FIXTURES', REPO.parent / 'shared'))
FIXTURE = SHARED / 'fixtures' / 'official_glus_tiny'
TRAINABLE = ('llm.*', 'lm_head.*', 'projector.*', 'seg_projector.*')
# Their order matters: the first one that fits is taken.
RENAMED = (('lm_head.', 'mllm.lm_head.'), ('model.mm_projector.', 'mllm.projector.'),
           ('model.text_hidden_fcs.0.', 'mllm.seg_projector.'),
           ('model.visual_model.', 'mask_head.sam2.'), ('model.', 'mllm.llm.'))

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not FIXTURE.is_dir(),
                       reason='the official fixture is not here (set GLUS_MM_FIXTURES)'),
]


def our_name(name):
    old, new = next(pair for pair in RENAMED if name.startswith(pair[0]))
    return new + name[len(old):]


def official_weights(model):
    state = torch.load(FIXTURE / 'checkpoint' / 'pytorch_model.bin', weights_only=True)
    state = {our_name(name): value for name, value in state.items() if 'rotary_emb' not in name}
    tower = model.mllm.vision_tower.state_dict()
    for name, value in load_file(FIXTURE / 'clip' / 'model.safetensors').items():
        name = name if name in tower else name.removeprefix('vision_model.')
        state[f'mllm.vision_tower.{name}'] = value
    return state


def official_model(**options):
    """A GLUS with the switches of the official behaviour and the official weights."""
    model = build_child(MODELS, dict(
        type='GLUS',
        mllm=dict(
            type='LlavaMLLM', tokenizer=str(FIXTURE / 'checkpoint'), template='llava_v1',
            pooling='raster4', trainable=TRAINABLE,
            vision_tower=dict(
                hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=2,
                patch_size=14, image_size=224, hidden_act='quick_gelu', layer_norm_eps=1e-5),
            llm=dict(
                hidden_size=64, intermediate_size=128, num_hidden_layers=3, num_attention_heads=4,
                max_position_embeddings=2048, rms_norm_eps=1e-6)),
        mask_head=dict(
            type='SAM2MemoryHead', sam2=str(FIXTURE / 'sam2_tiny_a.yaml'), image_size=1024,
            detach_memory=True, trainable=['sam2.sam_mask_decoder.*']),
        **options))
    model.load_state_dict(official_weights(model), strict=True)
    return model.eval()


@pytest.mark.parametrize(('variant', 'call', 'num_frames'), [
    ('expected', 2, 6), ('expected_nomem', 0, 3), ('expected_segfail', 0, 5)])
def test_inference(variant, call, num_frames):
    """Prompts, context frames, seg tokens, memories at stride 3, logits and masks."""
    record = json.loads((FIXTURE / 'inference' / f'{variant}.json').read_text())
    arrays = np.load(FIXTURE / 'inference' / f'{variant}.npz')
    model = official_model(test_cfg=dict(
        num_context=record['context_frame_num'], window=record['question_frame_num'],
        memory_stride=record['mem_stride'], use_memory=not record['not_use_mem_bank']))
    if 'lm_head_seg_row_multiplier' in record:
        with torch.no_grad():
            row = model.mllm.lm_head.weight[model.mllm.tokenizer.seg_id]
            row *= record['lm_head_seg_row_multiplier']
    expected = record['calls'][call]
    sample = RefVOSDataSample(metainfo=dict(expressions=(expected['exp'], ), exp_ids=('0', )))
    session = model.init_session(open_reader(FIXTURE / 'video' / 'frames'), sample)
    assert session.context_frame_ids == expected['context_frames']
    for turns in range(1, 4):
        assert model.mllm.prompt(expected['exp'], 4, turns) == expected['input_ids'][turns - 1]
    logits_key = f'call{call}/low_res_masks_s8_f32'
    row = 0  # decoded frames only have one
    for t, pred in zip(range(num_frames), (pred for _, _, pred in model.segment(session))):
        assert pred.is_seg.tolist() == [expected['seg_generated'][t]]
        packed = np.unpackbits(arrays[f'call{call}/full_masks_packed'][t])
        mask = packed[:pred.masks[0].numel()].reshape(pred.masks[0].shape)
        assert (pred.masks[0].numpy() != mask).mean() <= 0.002
        if not pred.is_seg:
            continue
        token = arrays[f'call{call}/seg_embedding'][row]
        np.testing.assert_allclose(pred.seg_tokens[0].numpy(), token, rtol=0, atol=1e-3)
        logits = pred.low_res_logits[0].numpy()[::8, ::8]
        np.testing.assert_allclose(logits, arrays[logits_key][row], rtol=0, atol=2e-2)
        row += 1
    assert row > 0


def training_batch(model, record):
    """The batch that the official loader made, from its files."""
    arrays = np.load(FIXTURE / 'train' / 'inputs.npz')
    inputs = dict(clip_imgs=[], sam_imgs=[], input_ids=[], labels=[])
    samples = []
    for b, item in enumerate(record['samples']):
        frames = [read_image(FIXTURE / name) for name in item['frame_files']]
        vision = np.stack([vision_tower_image(frame, 224) for frame in frames])
        inputs['clip_imgs'].append(torch.from_numpy(vision).permute(0, 3, 1, 2))
        inputs['sam_imgs'].append(torch.stack([sam2_image(frame, 1024) for frame in frames[4:]]))
        rows = range(*arrays['offset'][b:b + 2])
        lengths = [int(arrays['attention_masks'][row].sum()) for row in rows]
        for name in ('input_ids', 'labels'):
            inputs[name].append([arrays[name][r][:n] for r, n in zip(rows, lengths)])
        masks = torch.from_numpy(arrays[f'masks_b{b}']).to(torch.uint8)
        samples.append(RefVOSDataSample(gt_masks=masks))
    assert inputs['input_ids'][0][0][-1] == SegTokenizer.from_pretrained(
        str(FIXTURE / 'checkpoint')).eos_id
    data = model.data_preprocessor(dict(inputs=inputs, data_samples=samples), True)
    return data['inputs'], data['data_samples']


def test_training_step():
    """Losses, logits and gradients of all trained parameters, without any dropout."""
    record = json.loads((FIXTURE / 'train' / 'expected.json').read_text())
    arrays = np.load(FIXTURE / 'train' / 'preds.npz')
    model = official_model().train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if hasattr(module, 'dropout_p'):
            module.dropout_p = 0.0
    inputs, samples = training_batch(model, record)
    decoded = []
    model.mask_head.register_forward_hook(lambda _, args, out: decoded.append((args[1], out)))
    losses = model(inputs, samples, mode='loss')
    expected = record['plain']
    for ours, theirs in (('loss_ce', 'ce_loss'), ('loss_mask_bce', 'mask_bce_loss'),
                         ('loss_mask_dice', 'mask_dice_loss')):
        assert losses[ours].item() == pytest.approx(expected['losses'][theirs], rel=1e-4), ours
    for t, (tokens, out) in enumerate(decoded):
        # The logits are stored in half precision.
        for name, value, atol in (('seg', tokens, 1e-3),
                                  ('low_res_s2', out.low_res_logits[:, ::2, ::2], 8e-2)):
            official = np.concatenate([arrays[f'{name}_f{t}_b{b}'][:, 0] for b in (0, 1)])
            np.testing.assert_allclose(value.detach().numpy(), official, rtol=0, atol=atol)
    model.parse_losses(losses)[0].backward()
    grads = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    norms = {our_name(name): norm for name, norm in expected['grad_norms'].items()}
    for name in sorted(name for name, norm in norms.items() if norm is not None):
        # Gradients that cancel out to nothing differ by rounding only.
        assert grads.pop(name).norm().item() == pytest.approx(norms[name], rel=1e-3, abs=1e-5), name
    # The official code freezes these two together with the image encoder.
    assert {name.split('.')[3] for name in grads} == {'conv_s0', 'conv_s1'}
