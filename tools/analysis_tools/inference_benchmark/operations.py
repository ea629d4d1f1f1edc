"""Operations of one mask in the steady state, counted from the architecture; nothing is computed.

The modules run on the meta device, which has shapes and no values.
"""

from collections.abc import Callable

import torch
from mmengine import Config
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from train_benchmark.model import SIZES

from glus_mm.models import GLUS
from glus_mm.models.heads import HeadOutput, MemoryBank, SAM2Features
from glus_mm.text.prompt import IMAGE_TOKEN_INDEX
from inference_benchmark.model import build_model

NUM_MEMORIES = 7


def count_operations(size: str, others: int, text: str = 'the red square'
                     ) -> dict[str, dict[str, float]]:
    """GFLOP (two for a multiplication with an addition) by part.

    Args:
        size: see :func:`build_model`.
        others: expressions E that share what can be shared.
        text: an expression.

    Returns:
        For ``'official'``, ``'ours'`` and ``'turns'`` (ours with ``window_cache='turns'``) the
        parts of one mask; ours are those of a frame divided by E.
    """
    path, options = SIZES[size]
    config = Config.fromfile(path)
    config.merge_from_dict(options)
    layers = config.model.mllm.llm.num_hidden_layers
    model = build_model(size, 'float32', 'cpu', {'mllm.llm.num_hidden_layers': 1}).to('meta')
    cfg, mllm, head = model.test_cfg, model.mllm, model.mask_head
    image = _meta(1, 3, mllm.image_size, mllm.image_size)
    vision = _gflop(lambda: mllm.encode_images(image))
    sam_image = _meta(1, 3, head.image_size, head.image_size)
    sam = _gflop(lambda: head.extract_feat(sam_image))
    per_image = mllm.encode_images(image).shape[1]
    whole = mllm.prompt(text, cfg.num_context, cfg.window)
    prefix = whole[:mllm.split_prefix(whole, cfg.num_context)]
    start = len(prefix) + whole[len(prefix):].index(IMAGE_TOKEN_INDEX) + 2
    positions = [len(ids) + ids.count(IMAGE_TOKEN_INDEX) * (per_image - 1)
                 for ids in (prefix, whole[:start], whole)]
    length, vocabulary, width = positions[2], *mllm.lm_head.weight.shape
    shared = _llm(mllm, layers, positions[0], positions[1]) / others if others > 1 else 0.0
    own = _llm(mllm, layers, positions[1] if others > 1 else positions[0], length)
    # A stream's new turn attends to the prefix and to the turns of its window.
    two = mllm.prompt(text, cfg.num_context, 2)[len(prefix):]
    turn = mllm.split_prefix(two, 1) + per_image - 1
    keys = positions[0] + cfg.window * turn
    decode, logits = _decoding(model), 2e-9 * vocabulary * width
    each = {'vision tower': vision / others, 'SAM-2 encoder': sam / others}
    return dict(
        official={
            'vision tower': vision * (cfg.num_context + cfg.window), 'SAM-2 encoder': sam,
            'LLM': _llm(mllm, layers, 0, length) + length * logits, **decode},
        ours={**each, 'LLM': shared + own + logits, **decode},
        turns={**each, 'LLM': _llm(mllm, layers, keys - turn, keys) + logits, **decode})


def _llm(mllm, layers: int, seen: int, length: int) -> float:
    """Positions from ``seen`` to ``length`` of all layers, of which the model has only one."""
    config = mllm.llm.config
    weights = layers * sum(p.numel() for name, p in mllm.llm.named_parameters()
                  if name.startswith('layers') and p.dim() == 2)
    attended = sum(range(seen + 1, length + 1))
    width = config.num_attention_heads * (config.hidden_size // config.num_attention_heads)
    return 1e-9 * (2 * weights * (length - seen) + 4 * attended * width * layers)


def _decoding(model: GLUS) -> dict[str, float]:
    """Memory attention with all memories, mask decoder and memory encoder."""
    head, side = model.mask_head, model.mask_head.image_size // 16
    channels, memory = head.token_dim, head.sam2.mem_dim
    top = _meta(1, channels, side, side)
    stored = _meta(NUM_MEMORIES * side**2, 1, memory)
    feats = SAM2Features((_meta(1, channels // 8, 4 * side, 4 * side),
                          _meta(1, channels // 4, 2 * side, 2 * side)), top, top)
    logits = _meta(1, 4 * side, 4 * side)
    return {
        'memory attention': _gflop(lambda: head._attend(top, top, stored)),
        'mask decoder': _gflop(lambda: head(feats, _meta(1, channels), [MemoryBank(1)], 0)),
        'memory encoder': _gflop(lambda: head.encode_memory(HeadOutput(logits, None, top))),
    }


def _gflop(run: Callable) -> float:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops() / 1e9


def _meta(*shape: int) -> Tensor:
    return torch.empty(shape, device='meta')
