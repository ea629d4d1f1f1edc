"""SAM-2's memory attention for inference, with the keys and values of a memory made once.

Stock SAM-2 projects and rotates all memories anew on every frame. In GLUS a memory gets neither a
temporal encoding nor an object pointer, and positions count within a frame: its keys and values
stay as they are. The first self-attention has only the frame as its input, so that it is the same
for all tracks of a frame. The modules, and their weights, are those of the package that runs SAM-2.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
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


def can_project(attention: nn.Module) -> bool:
    """Whether the module is built as in all configs of SAM-2, with rotary attention."""
    return getattr(attention, 'batch_first', False) and all(
        hasattr(part, 'freqs_cis')
        for layer in attention.layers for part in (layer.self_attn, layer.cross_attn_image))


def rotary_table(dim: int, side: int, theta: float = 10000.0) -> Tensor:
    """SAM-2's rotations of the positions of a square in raster order.

    Args:
        dim: width of a head.
        side: of the square.
        theta: base of the frequencies.

    Returns:
        complex64 (L, D) for L positions, D = dim / 2: by x, then by y.
    """
    freqs = 1.0 / theta**(torch.arange(0, dim, 4)[:dim // 4].float() / dim)
    places = torch.arange(side * side)
    x, y = (places % side).float(), torch.div(places, side, rounding_mode='floor').float()
    angles = torch.cat([torch.outer(x, freqs), torch.outer(y, freqs)], -1)
    return torch.polar(torch.ones_like(angles), angles)


def project_memories(attention: nn.Module, entries: Tensor, pos: Tensor) -> list[ProjectedMemory]:
    """Make the keys and values of memories.

    Args:
        attention: the module, in eval mode.
        entries: (n, tokens, mem_dim), tokens in raster order of a square.
        pos: (tokens, mem_dim) their position encoding.

    Returns:
        n, each in a storage of its own, as they live differently long.
    """
    keys, values = [], []
    for layer in attention.layers:
        cross = layer.cross_attn_image
        source = entries + pos if layer.pos_enc_at_cross_attn_keys else entries
        keys.append(_rotated(cross, cross.k_proj(source)).transpose(1, 2))
        values.append(cross.v_proj(entries).unflatten(-1, (cross.num_heads, -1)))
    return [ProjectedMemory(*(tuple(
        part[i].clone(memory_format=torch.contiguous_format) for part in parts)
        for parts in (keys, values))) for i in range(len(entries))]


def attend(attention: nn.Module, top: Tensor, top_pos: Tensor,
           memories: Sequence[Sequence[ProjectedMemory]],
           run_layer: Callable[..., Tensor]) -> Tensor:
    """Attend to memories as the module itself does in eval mode.

    Args:
        attention: the module.
        top: (n, C, h, w) features of each track's frame, or (1, C, h, w) where it is the same.
        top_pos: (1, C, h, w) position encoding.
        memories: (n) the memories of each track, equally many.
        run_layer: :func:`attend_layer`, or what it was compiled to. All layers share a graph, as
            their keys and values are joined outside of it.

    Returns:
        (n, C, h, w).
    """
    shape = top.shape[1:]
    out, pos = top.flatten(2).transpose(1, 2), top_pos.flatten(2).transpose(1, 2)
    if attention.pos_enc_at_input:
        out = out + 0.1 * pos
    for i, layer in enumerate(attention.layers):
        keys, values = (
            torch.cat([getattr(entry, name)[i] for entries in memories for entry in entries])
            .unflatten(0, (len(memories), -1)).transpose(1, 2) for name in ('keys', 'values'))
        out = run_layer(layer, out, pos, keys, values)
    return attention.norm(out).transpose(1, 2).unflatten(2, shape[1:])


def attend_layer(layer: nn.Module, out: Tensor, pos: Tensor, keys: Tensor, values: Tensor
                 ) -> Tensor:
    """One layer of the memory attention: (1 or n, L, C) to (n, L, C).

    Args:
        layer: of the module.
        out: features of the frame, or what the layer before made of them.
        pos: (1, L, C).
        keys: (n, heads, tokens, C/heads) of the memories.
        values: likewise.
    """
    out = out + _attend_to_itself(layer, out, pos)
    out = out + _attend_to_memories(layer, out, pos, keys, values)
    hidden = layer.activation(layer.linear1(layer.norm3(out)))
    return out + layer.linear2(hidden)


def _attend_to_itself(layer: nn.Module, out: Tensor, pos: Tensor) -> Tensor:
    normed = layer.norm1(out)
    query = normed + pos if layer.pos_enc_at_attn else normed
    part = layer.self_attn
    attended = F.scaled_dot_product_attention(
        _rotated(part, part.q_proj(query)), _rotated(part, part.k_proj(query)),
        part.v_proj(normed).unflatten(-1, (part.num_heads, -1)).transpose(1, 2))
    return part.out_proj(attended.transpose(1, 2).flatten(2))


def _attend_to_memories(layer: nn.Module, out: Tensor, pos: Tensor, keys: Tensor,
                        values: Tensor) -> Tensor:
    """Cross attention; ``out`` (1 or n, L, C), keys and values (n, heads, tokens, C/heads)."""
    cross = layer.cross_attn_image
    normed = layer.norm2(out)
    query = normed + pos if layer.pos_enc_at_cross_attn_queries else normed
    query = _rotated(cross, cross.q_proj(query)).expand(len(keys), -1, -1, -1)
    attended = F.scaled_dot_product_attention(query, keys, values)
    return cross.out_proj(attended.transpose(1, 2).flatten(2))


def _rotated(attention: nn.Module, tokens: Tensor) -> Tensor:
    """Split (n, L, C) into heads (n, heads, L, C/heads), rotated by their positions."""
    tokens = tokens.unflatten(-1, (attention.num_heads, -1)).transpose(1, 2)
    table = attention.freqs_cis
    if len(table) != tokens.shape[2]:
        table = rotary_table(tokens.shape[3], round(tokens.shape[2]**0.5))
    # In float32, as SAM-2 does it.
    pairs = torch.view_as_complex(tokens.float().unflatten(-1, (-1, 2)).contiguous())
    return torch.view_as_real(pairs * table.to(tokens.device)).flatten(3).type_as(tokens)
