"""SAM-2's memory attention for inference, with the keys and values of a memory made once.

Stock SAM-2 projects and rotates all memories anew on every frame. In GLUS a memory gets neither a
temporal encoding nor an object pointer, and positions count within a frame: its keys and values
stay as they are. The first self-attention has only the frame as its input, so that it is the same
for all tracks of a frame. The modules, and their weights, are those of the stock package.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from sam2.modeling.memory_attention import MemoryAttention, MemoryAttentionLayer
from sam2.modeling.position_encoding import apply_rotary_enc
from sam2.modeling.sam.transformer import RoPEAttention
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class ProjectedMemory:
    """Keys and values of one memory, one pair per layer.

    Attributes:
        keys: each (tokens, heads, C/heads), rotated.
        values: each (tokens, heads, C/heads).
    """

    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]


def can_project(attention: MemoryAttention) -> bool:
    """Whether the module is built as in all configs of SAM-2, with rotary attention."""
    return attention.batch_first and all(
        isinstance(part, RoPEAttention)
        for layer in attention.layers for part in (layer.self_attn, layer.cross_attn_image))


def project_memory(attention: MemoryAttention, entry: Tensor, pos: Tensor) -> ProjectedMemory:
    """Make the keys and values of a memory.

    Args:
        attention: the module, in eval mode.
        entry: (tokens, mem_dim), tokens in raster order of a square.
        pos: (tokens, mem_dim) its position encoding.
    """
    keys, values = [], []
    for layer in attention.layers:
        cross = layer.cross_attn_image
        source = entry + pos if layer.pos_enc_at_cross_attn_keys else entry
        keys.append(_rotated(cross, cross.k_proj(source)[None])[0].transpose(0, 1).contiguous())
        values.append(cross.v_proj(entry).unflatten(-1, (cross.num_heads, -1)))
    return ProjectedMemory(tuple(keys), tuple(values))


def attend(attention: MemoryAttention, top: Tensor, top_pos: Tensor,
           memories: Sequence[Sequence[ProjectedMemory]]) -> Tensor:
    """Attend to memories as the module itself does in eval mode.

    Args:
        attention: the module.
        top: (n, C, h, w) features of each track's frame, or (1, C, h, w) where it is the same.
        top_pos: (1, C, h, w) position encoding.
        memories: (n) the memories of each track, equally many.

    Returns:
        (n, C, h, w).
    """
    shape = top.shape[1:]
    out, pos = top.flatten(2).transpose(1, 2), top_pos.flatten(2).transpose(1, 2)
    if attention.pos_enc_at_input:
        out = out + 0.1 * pos
    for i, layer in enumerate(attention.layers):
        out = out + _attend_to_itself(layer, out, pos)
        keys, values = (
            torch.cat([getattr(entry, name)[i] for entries in memories for entry in entries])
            .unflatten(0, (len(memories), -1)).transpose(1, 2) for name in ('keys', 'values'))
        out = out + _attend_to_memories(layer, out, pos, keys, values)
        hidden = layer.activation(layer.linear1(layer.norm3(out)))
        out = out + layer.linear2(hidden)
    return attention.norm(out).transpose(1, 2).unflatten(2, shape[1:])


def _attend_to_itself(layer: MemoryAttentionLayer, out: Tensor, pos: Tensor) -> Tensor:
    normed = layer.norm1(out)
    query = normed + pos if layer.pos_enc_at_attn else normed
    return layer.self_attn(query, query, v=normed)


def _attend_to_memories(layer: MemoryAttentionLayer, out: Tensor, pos: Tensor, keys: Tensor,
                        values: Tensor) -> Tensor:
    """Cross attention; ``out`` (1 or n, L, C), keys and values (n, heads, tokens, C/heads)."""
    cross = layer.cross_attn_image
    normed = layer.norm2(out)
    query = normed + pos if layer.pos_enc_at_cross_attn_queries else normed
    query = _rotated(cross, cross.q_proj(query)).expand(len(keys), -1, -1, -1)
    attended = F.scaled_dot_product_attention(query, keys, values)
    return cross.out_proj(attended.transpose(1, 2).flatten(2))


def _rotated(attention: RoPEAttention, tokens: Tensor) -> Tensor:
    """Split (n, L, C) into heads (n, heads, L, C/heads), rotated by their positions."""
    tokens = tokens.unflatten(-1, (attention.num_heads, -1)).transpose(1, 2)
    table = attention.freqs_cis
    if len(table) != tokens.shape[2]:
        side = round(tokens.shape[2]**0.5)
        table = attention.compute_cis(end_x=side, end_y=side)
    return apply_rotary_enc(tokens, tokens[:, :, :0], table.to(tokens.device))[0]
