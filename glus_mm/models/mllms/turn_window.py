"""A window of turns whose keys and values stay, in training and in streaming alike.

A turn is what belongs to one query frame: its image, the question, the answer, and the marks up to
the next image. With this window a turn attends to the prefix, to itself and to the ``window - 1``
turns before it, which saw turns before them; the published schedule runs the turns of a window anew
for each frame, so that these saw nothing before the window. What a turn is in the window of a later
frame is then what it was in its own, and a stream keeps it.

A window is a prefix with turns behind it, whichever these are. So a query has two places: against
the prefix that in its own window, where the oldest turn stands right behind the prefix, and against
turns its running place, as if no turn had ever been dropped. One rotary position cannot be both
once a turn has been dropped: the query is rotated twice, and each key meets the one that is meant.

In shapes, d is the width of a head.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask
from transformers.models.llama.modeling_llama import rotate_half

from glus_mm.models.mllms.shared_prefix import SharedPrefix
from glus_mm.utils.precision import at_least_float32

ATTENTION = 'glus_mm_turn_window'
"""Name of the attention in transformers; without a second rotation it is ``'sdpa'``."""


@dataclass(frozen=True)
class SecondRotation:
    """Turns a query from its running place to that in its own window.

    Attributes:
        cos: (N, Q, d).
        sin: likewise.
        in_prefix: bool (N, K), the keys that meet the query at the latter.
    """

    cos: Tensor
    sin: Tensor
    in_prefix: Tensor

    def apply(self, query: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
        """Queries and keys of twice the width whose products are the scores.

        Args:
            query: (N, heads, Q, d), rotated at running places.
            key: (N, key heads, K, d).
        """
        turned = rotate(query, self.cos[:, None], self.sin[:, None])
        outside = self.in_prefix[:, None, :, None]
        return (torch.cat([turned, query], -1),
                torch.cat([key.masked_fill(~outside, 0), key.masked_fill(outside, 0)], -1))


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
        query, key = second_rotation.apply(query, key)
    return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)


AttentionInterface.register(ATTENTION, _attention)
AttentionMaskInterface.register(ATTENTION, sdpa_mask)


@dataclass(frozen=True)
class TurnWindow:
    """Layout of sequences in which each turn has its window.

    Attributes:
        allowed: bool (N, 1, Q, K), which keys each position attends to.
        positions: (N, Q) running places.
        shift: (N, Q) from there to the place in the own window, 0 or less.
        in_prefix: bool (N, K).
    """

    allowed: Tensor
    positions: Tensor
    shift: Tensor
    in_prefix: Tensor

    def mask(self) -> Tensor:
        """Which keys each position attends to: bool (N, 1, Q, K)."""
        return self.allowed


@dataclass(frozen=True)
class KeptTurns:
    """What stays of a conversation from one frame to the next, beside the prefix.

    Attributes:
        keys: (key heads, L, d) of each layer, rotated at places that go on from the prefix.
        values: likewise.
        lengths: positions of each turn, the oldest first; at most as many turns as the window has.
        newest: ids of the last turn, as far as they were run: its answer is open.
    """

    keys: list[Tensor]
    values: list[Tensor]
    lengths: list[int]
    newest: list[int]


def window_in_training(layout: SharedPrefix, starts: Sequence[Sequence[int]], window: int
                       ) -> TurnWindow:
    """Give the turns of whole conversations their windows.

    Args:
        layout: of the N conversations in G sequences.
        starts: (N) where the turns of each begin, in positions of the conversation.
        window: number of turns.
    """
    longest = int(layout.length.max())
    index = layout.index(longest)
    turn = torch.zeros(layout.part.numel(), dtype=torch.long)
    shift = torch.zeros_like(turn)
    for places, length, begins in zip(index, layout.length.tolist(), starts):
        if not begins:
            continue
        begins = torch.tensor(begins)
        number = (torch.arange(length)[:, None] >= begins).sum(1)
        oldest = (number - window).clamp(min=0)
        turn[places[:length]] = number
        shift[places[:length]] = begins[0] - begins[oldest]
    turn, shift = (values.view(layout.part.shape) for values in (turn, shift))
    near = turn[:, :, None] - turn[:, None] < window
    allowed = layout.mask() & ((turn == 0)[:, None] | near)[:, None]
    return TurnWindow(allowed, layout.positions, shift, turn == 0)


def window_in_stream(seen: int, kept: Sequence[int], closing: Sequence[int],
                     new: Sequence[int], evicted: Sequence[int]) -> TurnWindow:
    """Lay out the next turn of N conversations behind what is kept of them.

    The keys are those of the prefix, of the kept turns and of what is run now, the latter two
    padded on the right.

    Args:
        seen: length of the prefix.
        kept: (N) positions of the kept turns.
        closing: (N) how many of the positions that are run still belong to the turn before.
        new: (N) how many belong to the new one.
        evicted: (N) positions of the oldest turn where the new one no longer sees it, else 0.
    """
    kept, closing, new, evicted = (torch.tensor(x)[:, None] for x in (kept, closing, new, evicted))
    padded, run = int(kept.max()), int((closing + new).max())
    place, slot = torch.arange(run)[None], torch.arange(padded + run)[None]
    is_new = (place >= closing)
    # The order of the keys behind the prefix; padding comes after everything.
    order = torch.where(slot < padded, slot, slot - padded + kept)
    order = order.masked_fill((slot < padded) & (slot >= kept), padded + 2 * run)
    first = torch.where(is_new, evicted, 0)
    allowed = ((order[:, None] <= (kept + place)[:, :, None])
               & (order[:, None] >= first[:, :, None]))
    prefix = torch.ones(len(kept), run, seen, dtype=torch.bool)
    in_prefix = torch.arange(seen + padded + run) < seen
    return TurnWindow(torch.cat([prefix, allowed], 2)[:, None], seen + kept + place,
                      -first, in_prefix.expand(len(kept), -1))


def batch_kept(prefix: Sequence[Tensor], kept: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    """Keys, or values, of a prefix and of what N conversations kept behind it.

    Args:
        prefix: (1, heads, P, d) of each layer.
        kept: (N) of (heads, L, d) of each layer.

    Returns:
        (N, heads, P + L, d) of each layer, padded on the right.
    """
    batched = []
    for start, rows in zip(prefix, zip(*kept)):
        rows = pad_sequence([row.transpose(0, 1) for row in rows], True).transpose(1, 2)
        batched.append(torch.cat([start.expand(len(rows), -1, -1, -1), rows], 2))
    return batched
