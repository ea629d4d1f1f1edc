"""Weights of LLaMA-VID and of its vision tower under the names of :class:`LlamaVidVideoQA`."""

from collections.abc import Mapping

import torch
from torch import Tensor

# (official, ours).
_LLAMA_VID = (
    ('lm_head.', 'llm.lm_head.'),
    ('model.embed_tokens.', 'llm.model.embed_tokens.'),
    ('model.layers.', 'llm.model.layers.'),
    ('model.norm.', 'llm.model.norm.'),
    ('model.mm_projector.', 'projector.'),
    ('model.vlm_att_encoder.bert.', 'qformer.'),
    ('model.vlm_att_query', 'query_tokens'),
    ('model.vlm_att_ln.', 'qformer_norm.'),
    ('model.vlm_att_projector.', 'context_query.'),
    ('model.vlm_att_key_projector.', 'context_key.'),
    ('model.vlm_att_val_projector.', 'context_value.'),
)
_TOWER = 'model.vision_tower.vision_tower.'
_EVA = (
    ('cls_token', 'embeddings.class_embedding'),
    ('pos_embed', 'embeddings.position_embedding'),
    ('patch_embed.proj.', 'embeddings.patch_embedding.'),
    ('blocks.', 'encoder.layers.'),
)
_EVA_PARTS = (('.norm1.', '.layer_norm1.'), ('.norm2.', '.layer_norm2.'),
              ('.attn.proj.', '.self_attn.projection.'), ('.attn.', '.self_attn.'))
# Buffers and parts of EVA that the tower does not use.
_UNUSED = ('rotary_emb.inv_freq', 'embeddings.position_ids')
_EVA_UNUSED = ('norm.', 'fc_norm.', 'head.', 'mask_token')


def to_ours(state: Mapping[str, Tensor], tower: Mapping[str, Tensor], num_layers: int
            ) -> dict[str, Tensor]:
    """Give official weights our names.

    Args:
        state: of a LLaMA-VID checkpoint.
        tower: of ``eva_vit_g.pth``; may be empty where the checkpoint holds the tower.
        num_layers: layers of the tower that are used; later ones are left out.

    Returns:
        The state of a :class:`LlamaVidVideoQA`; a name that is not known stays as it is, so that
        loading lists it.
    """
    held = {name.removeprefix(_TOWER): value for name, value in state.items()
            if name.startswith(_TOWER)}
    result = {f'vision.{name}': value
              for name, value in _eva_to_ours(held or tower, num_layers).items()}
    for name, value in state.items():
        if name.startswith(_TOWER) or name.endswith(_UNUSED):
            continue
        result[_qformer_name(_renamed(name, _LLAMA_VID))] = value
    return result


def _eva_to_ours(tower: Mapping[str, Tensor], num_layers: int) -> dict[str, Tensor]:
    result = {}
    for name, value in tower.items():
        parts = name.split('.')
        if name.startswith(_EVA_UNUSED) or (parts[0] == 'blocks' and int(parts[1]) >= num_layers):
            continue
        if name.endswith('.attn.q_bias'):
            # Keys have no bias.
            second = tower[name.replace('q_bias', 'v_bias')]
            value = torch.cat([value, torch.zeros_like(value), second])
            name = name.replace('q_bias', 'qkv.bias')
        elif name.endswith('.attn.v_bias'):
            continue
        name = _renamed(name, _EVA)
        for old, new in _EVA_PARTS:
            name = name.replace(old, new)
        result[name] = value
    return result


def _qformer_name(name: str) -> str:
    """BERT's names within the Q-former of InstructBLIP."""
    if not name.startswith('qformer.'):
        return name
    for old, new in (('attention.self.', 'attention.attention.'),
                     ('embeddings.LayerNorm.', 'embeddings.layernorm.')):
        name = name.replace(old, new)
    return name


def _renamed(name: str, prefixes: tuple[tuple[str, str], ...]) -> str:
    for old, new in prefixes:
        if name.startswith(old):
            return new + name[len(old):]
    return name
