"""Models with random weights at several sizes, and a batch of made-up videos for them."""

from pathlib import Path

import numpy as np
import torch
from mmengine import Config
from torch import nn

from glus_mm.models import GLUS
from glus_mm.registry import MODELS, build_child
from glus_mm.structures import RefVOSDataSample
from glus_mm.text.prompt import build_conversation
from glus_mm.utils.quantize import quantize_frozen

CONFIGS = Path(__file__).resolve().parents[3] / 'configs' / '_base_' / 'models'
LORA = CONFIGS / 'glus_lisa-7b_sam2-l_lora.py'
# The shipped tokenizer stands in for LLaMA's; embeddings and logits are as large as its own.
PUBLISHED = {'model.mllm.tokenizer': 'tiny', 'model.mllm.llm.vocab_size': 32004}
# What is trained, and how, is that of the published size in all but the tiny model.
SIZES = {
    '7b': (LORA, PUBLISHED),
    'small': (LORA, {
        **PUBLISHED,
        'model.mllm.llm.hidden_size': 512, 'model.mllm.llm.num_hidden_layers': 8,
        'model.mllm.llm.num_attention_heads': 8, 'model.mllm.llm.intermediate_size': 1376,
        'model.mllm.vision_tower.hidden_size': 768,
        'model.mllm.vision_tower.num_hidden_layers': 12,
        'model.mllm.vision_tower.num_attention_heads': 12,
        'model.mllm.vision_tower.intermediate_size': 3072,
        'model.mask_head.sam2': 'sam2_hiera_t', 'model.mask_head.image_size': 512}),
    'tiny': (CONFIGS / 'glus_tiny.py', {}),
}
FRAME = (480, 854)
"""Height and width of the made-up frames, those of most MeViS videos."""
NUM_CONTEXT, NUM_QUERY = 4, 4


def build_model(size: str, dtype: str, device: str, llm_bits: int = 16) -> GLUS:
    """Build a model in train mode, without dropout, so that losses can be compared.

    Args:
        size: key of :data:`SIZES`.
        dtype: type of the frozen parameters, see ``model.dtype``.
        device: where it is built, too: a large model never stands in the host's memory.
        llm_bits: 4 quantizes the frozen linear layers of the LLM.

    Returns:
        The model, with the weights of seed 0.
    """
    path, options = SIZES[size]
    cfg = Config.fromfile(path)
    cfg.merge_from_dict({**options, 'model.dtype': dtype})
    torch.manual_seed(0)
    with torch.device(device):
        model = build_child(MODELS, cfg.model.to_dict())
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if hasattr(module, 'dropout_p'):
            module.dropout_p = 0.0
    model = model.to(device).train()
    if llm_bits == 4:
        quantize_frozen(model)
    return model


def make_batch(model: GLUS, videos: int, expressions: int, seed: int
               ) -> tuple[dict, list[RefVOSDataSample]]:
    """Make a batch as the data pipeline does, of noise.

    Args:
        model: the model, whose sizes and conversations it gets.
        videos: number of videos B.
        expressions: expressions of each video E.
        seed: of images, masks and texts.

    Returns:
        Inputs and data samples, preprocessed. No frame is context and query at once.
    """
    rng = np.random.default_rng(seed)
    mllm, size = model.mllm, model.mask_head.image_size
    inputs = dict(clip_imgs=[], sam_imgs=[], input_ids=[], labels=[])
    samples = []
    for b in range(videos):
        shape = (NUM_CONTEXT + NUM_QUERY, 3, mllm.image_size, mllm.image_size)
        inputs['clip_imgs'].append(torch.from_numpy(rng.integers(0, 256, shape, dtype=np.uint8)))
        inputs['sam_imgs'].append(torch.from_numpy(
            rng.random((NUM_QUERY, 3, size, size), dtype=np.float32)))
        texts = [_conversation(model, e, rng) for e in range(expressions)]
        for key, rows in zip(('input_ids', 'labels'), zip(*texts)):
            inputs[key].append(list(rows))
        sample = RefVOSDataSample(metainfo=dict(
            dataset='noise', video_id=f'{seed}-{b}',
            exp_ids=tuple(map(str, range(expressions))),
            object_ids=tuple((str(e), ) for e in range(expressions)),
            context_frame_ids=list(range(NUM_CONTEXT)),
            query_frame_ids=list(range(NUM_CONTEXT, NUM_CONTEXT + NUM_QUERY))))
        sample.gt_masks = torch.from_numpy(_masks(expressions, rng))
        samples.append(sample)
    data = model.data_preprocessor(dict(inputs=inputs, data_samples=samples), True)
    return data['inputs'], data['data_samples']


def _conversation(model: GLUS, number: int, rng: np.random.Generator
                  ) -> tuple[np.ndarray, np.ndarray]:
    template = model.mllm.template
    questions, answers = (rng.integers(len(texts), size=NUM_QUERY).tolist()
                          for texts in (template.questions, template.answers))
    # Short, as the shipped tokenizer needs more tokens for a text than LLaMA's: conversations are
    # about as long as those of the published model with a sentence.
    text = f'{"abcdefgh"[number % 8]} one'
    return build_conversation(
        model.mllm.tokenizer, template, text, NUM_CONTEXT, questions, answers)


def _masks(expressions: int, rng: np.random.Generator) -> np.ndarray:
    masks = np.zeros((expressions, NUM_QUERY, *FRAME), dtype=np.uint8)
    for e in range(expressions):
        top, left = rng.integers(0, FRAME[0] // 2), rng.integers(0, FRAME[1] // 2)
        masks[e, :, top:top + FRAME[0] // 3, left:left + FRAME[1] // 3] = 1
    return masks
