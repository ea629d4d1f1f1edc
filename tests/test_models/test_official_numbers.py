"""The two halves of the model give the official numbers, each from the recorded input of its own.

The whole way from a checkpoint to masks and gradients is compared by
``dev/check_official.py``; where that fails, these tests say which half it is.
"""

import json

import numpy as np
import pytest
import torch

from glus_mm.apis import init_model
from glus_mm.conversion import convert_glus
from glus_mm.models import MemoryBank
from glus_mm.utils.image import read_image, sam2_image, vision_tower_image
from programs import ROOT

FIXTURE = ROOT / 'tests' / 'data' / 'official_glus_tiny'
CALLS = json.loads((FIXTURE / 'inference' / 'expected.json').read_text())['calls']
ARRAYS = np.load(FIXTURE / 'inference' / 'expected.npz')
WINDOW = 4


@pytest.fixture(scope='module')
def model(tmp_path_factory):
    out = tmp_path_factory.mktemp('converted') / 'glus'
    convert_glus(FIXTURE / 'checkpoint', out, clip=str(FIXTURE / 'clip'),
                 sam2=str(FIXTURE / 'sam2_tiny_a.yaml'))
    return init_model(out / 'config.py', out / 'model.pth')


def frame(t):
    return read_image(FIXTURE / 'video' / 'frames' / f'{t:05d}.png')


@pytest.mark.parametrize('call', range(len(CALLS)))
@pytest.mark.parametrize('step', [0, 2, 3, 4, 11])
def test_mllm(model, call, step):
    """Seg token of a recorded prompt: the first one, a growing window, and a sliding one."""
    expected, mllm = CALLS[call], model.mllm
    shown = [*expected['context_frames'], *range(max(0, step + 1 - WINDOW), step + 1)]
    images = np.stack([vision_tower_image(frame(t), mllm.image_size) for t in shown])
    images = model.data_preprocessor.normalize_vision(torch.from_numpy(images).permute(0, 3, 1, 2))
    states = []
    handle = mllm.lm_head.register_forward_hook(lambda _, args, out: states.append((args[0], out)))
    with torch.no_grad():
        seg = mllm.next_seg_tokens([expected['input_ids'][step]], mllm.encode_images(images))
    handle.remove()
    (hidden, logits), = states
    assert logits.argmax().item() == expected['new_token'][step]
    assert seg.is_seg.tolist() == [expected['seg_generated'][step]]
    for name, value in (('last_hidden_at_last_pos', hidden), ('seg_embedding', seg.tokens)):
        np.testing.assert_allclose(
            value[0].numpy(), ARRAYS[f'call{call}/{name}'][step], rtol=0, atol=1e-3)


def test_mask_head(model):
    """Logits of recorded seg tokens, two expressions in a batch, with memory."""
    head = model.mask_head
    memory = [MemoryBank(stride=3) for _ in range(2)]
    for t in range(3):
        image = model.data_preprocessor.normalize_sam(sam2_image(frame(t), head.image_size))
        tokens = np.stack([ARRAYS[f'call{call}/seg_embedding'][t] for call in (0, 2)])
        with torch.no_grad():
            feats = head.extract_feat(image[None]).select(torch.tensor([0, 0]))
            pred = head(feats, torch.from_numpy(tokens), memory, t)
            for bank, entry in zip(memory, head.encode_memory(pred)):
                bank.add(t, entry)
        expected = np.stack([ARRAYS[f'call{call}/low_res_masks_s8_f32'][t] for call in (0, 2)])
        np.testing.assert_allclose(
            pred.low_res_logits[:, ::8, ::8].numpy(), expected, rtol=0, atol=2e-2)
        ious = [CALLS[call]['iou_pred_tokens0to3'][t][0] for call in (0, 2)]
        np.testing.assert_allclose(pred.scores.numpy(), ious, rtol=0, atol=1e-3)
