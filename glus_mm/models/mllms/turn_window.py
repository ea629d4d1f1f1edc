"""A window of turns whose keys and values stay, in training and in streaming alike.

A turn is what belongs to one query frame: its image, the question, the answer, and the marks up to
the next image. With this window a turn attends to the prefix, to itself and to the ``window - 1``
turns before it, which saw turns before them; the published schedule runs the turns of a window anew
for each frame, so that these saw nothing before the window. What a turn is in the window of a later
frame is then what it was in its own, and a stream keeps it.

A window is a prefix with turns behind it, whichever these are. So a query has two positions:
against the prefix that in its own window, where the oldest turn stands right behind the prefix, and
against turns its running position, as if no turn had ever been dropped. One rotary position cannot
be both once a turn has been dropped: in training, whose sequences hold all turns, the query is
rotated twice, and each key meets the one that is meant. A stream holds one window at a time; when
a turn is dropped from it, the keys of the others are rotated back by its length, and both positions
are one.

In shapes, d is the width of a head.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.cache_utils import DynamicLayer
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask
from transformers.models.llama.modeling_llama import rotate_half

from glus_mm.models.mllms.layout import Layout
from glus_mm.utils.precision import at_least_float32

ATTENTION = 'glus_mm_turn_window'
"""Name of the attention in transformers; without a second rotation it is ``'sdpa'``."""


@dataclass(frozen=True)
class SecondRotation:
    """Turns a query from its running place to that in its own window.

    Attributes:
        cos, sin: (N, Q, d).
        in_prefix: bool (N, K), the keys that meet the query at the latter.
    """

    cos: Tensor
    sin: Tensor
    in_prefix: Tensor


def rotate(states: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate queries or keys, in at least float32, on top of what they are rotated by.

    Args:
        states: (N, heads, L, d), or without N.
        cos: likewise, or what can be broadcast to it.
        sin: as ``cos``.
    """
    wide = at_least_float32(states)
    return (wide * cos + rotate_half(wide) * sin).to(states.dtype)


def _attention(module: nn.Module, query: Tensor, key: Tensor, value: Tensor,
               attention_mask: Tensor | None, second_rotation: SecondRotation | None = None,
               **kwargs) -> tuple[Tensor, None]:
    if second_rotation is not None:
        # Queries and keys of twice the width, whose products are the scores.
        turned = rotate(query, second_rotation.cos[:, None], second_rotation.sin[:, None])
        prefix = second_rotation.in_prefix[:, None, :, None]
        query = torch.cat([turned, query], -1)
        key = torch.cat([key.masked_fill(~prefix, 0), key.masked_fill(prefix, 0)], -1)
    return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)


AttentionInterface.register(ATTENTION, _attention)
AttentionMaskInterface.register(ATTENTION, sdpa_mask)


@dataclass(frozen=True)
class TurnWindow(Layout):
    """Layout of sequences in which each turn has its window; positions count all turns.

    Attributes:
        turn: (G, L) number of the turn, 0 before the first one.
        window: number of turns that a turn attends to.
        shift: (G, L) from the running place to that in the own window, 0 or less; None where all
            are 0.
    """

    turn: Tensor
    window: int
    shift: Tensor | None

    def mask(self) -> Tensor:
        """See :meth:`Layout.mask`."""
        near = self.turn[:, :, None] - self.turn[:, None] < self.window
        return super().mask() & ((self.turn == 0)[:, None] | near)[:, None]


@dataclass(frozen=True)
class KeptTurns:
    """What stays of a conversation from one frame to the next, beside the prefix.

    Attributes:
        states: keys and values (2, layers, key heads, L, d), the keys rotated at positions that go
            on from the prefix.
        lengths: positions of each turn, the oldest first; at most as many turns as the window has.
        newest: ids of the last turn as they were run, with the answer that was expected.
    """

    states: Tensor
    lengths: list[int]
    newest: list[int]

    @property
    def size(self) -> int:
        """Positions of all turns."""
        return sum(self.lengths)


def window_in_training(layout: Layout, starts: Sequence[Sequence[int]], window: int
                       ) -> TurnWindow:
    """Give the turns of whole conversations their windows.

    Args:
        layout: of the N conversations in G sequences.
        starts: (N) where the turns of each begin, in positions of the conversation.
        window: number of turns.
    """
    turn = torch.zeros(layout.size, dtype=torch.long)
    shift = torch.zeros_like(turn)
    for positions, length, begins in zip(
            layout.index(int(layout.length.max())), layout.length.tolist(), starts):
        if not begins:
            continue
        begins = torch.tensor(begins)
        number = (torch.arange(length)[:, None] >= begins).sum(1)
        oldest = (number - window).clamp(min=0)
        turn[positions[:length]] = number
        shift[positions[:length]] = begins[0] - begins[oldest]
    turn, shift = (values.view(layout.branch.shape) for values in (turn, shift))
    return TurnWindow(
        **vars(layout), turn=turn, window=window, shift=shift if shift.any() else None)


class LayerBehindPrefix(DynamicLayer):
    """Keys and values of N conversations behind a prefix, joined when they are attended to.

    Args:
        prefix: of one layer, batch size N.
        kept: keys and values (2, N, key heads, L, d), padded on the right.
    """

    def __init__(self, prefix: DynamicLayer, kept: Tensor) -> None:
        super().__init__()
        self.lazy_initialization(prefix.keys, prefix.values)
        self.parts = tuple(zip((prefix.keys, prefix.values), kept))

    def get_seq_length(self) -> int:
        """Length of the prefix and of the longest row behind it."""
        return sum(part.shape[2] for part in self.parts[0])

    def update(self, key_states: Tensor, value_states: Tensor, *args, **kwargs
               ) -> tuple[Tensor, Tensor]:
        """Keys and values (N, key heads, K, d) of all, with those of what is run behind them."""
        self.keys, self.values = (torch.cat([*parts, new], 2) for parts, new in zip(
            self.parts, (key_states, value_states)))
        return self.keys, self.values
