"""Names of the weights in the official layout and here."""

from collections.abc import Iterable, Mapping
from typing import TypeVar

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
