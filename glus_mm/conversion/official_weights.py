"""Names and weights of official checkpoints, and ours of them."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor
from transformers import LlamaConfig

from glus_mm.conversion.official_config import OfficialConfig
from glus_mm.utils.weight_files import Weights

T = TypeVar('T')

# (official, ours). A vision tower is named as in CLIPVisionModel's files before transformers 5.
PREFIXES = (
    ('lm_head.', 'mllm.lm_head.'),
    ('model.embed_tokens.', 'mllm.llm.embed_tokens.'),
    ('model.layers.', 'mllm.llm.layers.'),
    ('model.norm.', 'mllm.llm.norm.'),
    ('model.mm_projector.', 'mllm.projector.'),
    ('model.text_hidden_fcs.0.', 'mllm.seg_projector.'),
    ('model.visual_model.', 'mask_head.sam2.'),
)
# What our names begin with.
OURS = ('mllm.', 'mask_head.')
VISION_TOWER = 'mllm.vision_tower.'
SAM2 = 'mask_head.sam2.'
SEG_PROJECTOR = 'mllm.seg_projector.'
# LISA has one; a longer list would be unknown here.
OFFICIAL_FCS = 'model.text_hidden_fcs.'
CLIP_PREFIX = 'vision_model.'
# Where official checkpoints that hold the vision tower have it (most leave it out).
OFFICIAL_TOWER = 'model.vision_tower.vision_tower.'
INV_FREQ = '.self_attn.rotary_emb.inv_freq'
EMBEDDINGS = 'mllm.llm.embed_tokens.weight'


def to_ours(name: str) -> str | None:
    """Our name of an official weight, None if there is none."""
    return _rename(name, PREFIXES)


def to_official(name: str) -> str | None:
    """Official name of one of our weights; None for what the official layout does not have."""
    return _rename(name, [(ours, official) for official, ours in PREFIXES])


def with_tower_names_of(model: Iterable[str], state: Mapping[str, T]) -> dict[str, T]:
    """Name the vision tower's weights as a model does.

    Args:
        model: names of its weights. Early versions of transformers 5 have CLIP's prefix
            ``vision_model.`` in them, later ones have not.
        state: weights under our names, without that prefix.
    """
    prefix = VISION_TOWER + CLIP_PREFIX
    if not any(name.startswith(prefix) for name in model):
        return dict(state)
    return {prefix + name.removeprefix(VISION_TOWER) if name.startswith(VISION_TOWER) else name:
            value for name, value in state.items()}


def _rename(name: str, prefixes: Iterable[tuple[str, str]]) -> str | None:
    for old, new in prefixes:
        if name.startswith(old):
            return new + name[len(old):]
    return None


def inv_freq(config: LlamaConfig) -> Tensor:
    """Inverse frequencies (Dh / 2) of an LLM, as transformers 4.31 computed them.

    Scaling types act later, on positions or at long sequences, and leave the buffer as it is.

    Returns:
        float32 (Dh / 2), Dh the width of a head.
    """
    width = config.head_dim
    return 1.0 / (config.rope_parameters['rope_theta']**(torch.arange(0, width, 2).float() / width))


def check_inv_freq(name: str, value: Tensor, config: LlamaConfig, file: Path) -> None:
    """Raise ``ValueError`` if a stored buffer is not what the sizes give, in its own type.

    Args:
        name: of the buffer, for the message.
        value: (head_dim / 2) the stored frequencies, see :func:`inv_freq`.
        config: sizes of the LLM.
        file: where the buffer is stored.
    """
    expected = inv_freq(config).to(value.dtype)
    if value.shape != expected.shape or not torch.allclose(
            value.float(), expected.float(), rtol=torch.finfo(value.dtype).eps, atol=0):
        raise ValueError(f'{file}: expected {name} to be the rotary frequencies that config.json '
                         f'gives, {expected[:4].tolist()}... {tuple(expected.shape)}, got '
                         f'{value.flatten()[:4].tolist()}... {tuple(value.shape)}')


def split_weights(weights: Weights, official: OfficialConfig
           ) -> tuple[dict[str, Tensor], dict[str, Tensor], str | None]:
    """Give the weights of a checkpoint our names.

    Args:
        weights: under their official names.
        official: config.json of the checkpoint.

    Returns:
        All weights but the vision tower's under our names, or their own where we have none; the
        vision tower's, named as in a ``CLIPVisionModel``; the type of the rotary frequencies,
        which are checked and left out, None where there are none or several types.

    Raises:
        ValueError: a name is one of ours, or rotary frequencies do not follow from the sizes.
    """
    state, tower, dtypes = {}, {}, set()
    for name, value in weights.tensors.items():
        if name.startswith(OURS):
            raise ValueError(f'{weights.files[name]}: expected official names, got one of '
                             f'glus_mm: {name}')
        if name.endswith(INV_FREQ):
            check_inv_freq(name, value, official.llama, weights.files[name])
            dtypes.add(str(value.dtype).removeprefix('torch.'))
        elif name.startswith(OFFICIAL_TOWER):
            tower[name.removeprefix(OFFICIAL_TOWER)] = value
        else:
            state[to_ours(name) or name] = value
    return state, tower, dtypes.pop() if len(dtypes) == 1 else None


def run_dtype(state: Mapping[str, Tensor]) -> str:
    """The type in which a model runs: bfloat16 if its embeddings are of half precision."""
    embeddings = state.get(EMBEDDINGS)
    half = embeddings is not None and embeddings.dtype in (torch.float16, torch.bfloat16)
    return 'bfloat16' if half else 'float32'
