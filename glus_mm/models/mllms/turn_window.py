"""A window of turns whose keys and values stay, in training and in streaming alike.

A turn is what belongs to one query frame: its image, the question, the answer, and the marks up to
the next image. With this window a turn attends to the prefix, to itself and to the ``window - 1``
turns before it, which saw turns before them; the published schedule runs the turns of a window anew
for each frame, so that these saw nothing before the window. What a turn is in the window of a later
frame is then what it was in its own, and a stream keeps it.

A window is a prefix with turns behind it, whichever these are. So a query has two places: against
the prefix that in its own window, where the oldest turn stands right behind the prefix, and against
turns its running place, as if no turn had ever been dropped. One rotary position cannot be both
once a turn has been dropped: in training, whose sequences hold all turns, the query is rotated
twice, and each key meets the one that is meant. A stream holds one window at a time; when a turn is
dropped from it, the keys of the others are rotated back by its length, and all places are one.

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
        shift: (N, Q) from there to the place in the own window, 0 or less; None where all are 0.
        in_prefix: bool (N, K); None without ``shift``.
    """

    allowed: Tensor
    positions: Tensor
    shift: Tensor | None = None
    in_prefix: Tensor | None = None

    def mask(self) -> Tensor:
        """Which keys each position attends to: bool (N, 1, Q, K)."""
        return self.allowed


@dataclass(frozen=True)
class KeptTurns:
    """What stays of a conversation from one frame to the next, beside the prefix.

    Attributes:
        states: keys and values (2, layers, key heads, L, d), the keys rotated at places that go on
            from the prefix.
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
    if not shift.any():
        return TurnWindow(allowed, layout.positions)
    return TurnWindow(allowed, layout.positions, shift, turn == 0)


def window_in_stream(seen: int, kept: Sequence[int], padded: int, own: Sequence[int],
                     cut: Sequence[int], ends: Sequence[int]) -> TurnWindow:
    """Lay out what is run of N conversations behind what they keep.

    The keys are those of the prefix, of the kept turns and of what is run, the latter two padded
    on the right. Nothing that is kept is out of the window, so that all places are those in it.

    Args:
        seen: length of the prefix.
        kept: (N) positions of the kept turns.
        padded: what they are padded to.
        own: (N) positions that go on from there, and are kept.
        cut: (N) how many of them the open end of a prompt goes on from.
        ends: (N) positions of that end, behind the others.
    """
    kept, own, cut, ends = (torch.tensor(numbers)[:, None] for numbers in (kept, own, cut, ends))
    run = int((own + ends).max())
    place = torch.arange(run)[None]
    is_end = place >= own
    behind = torch.where(is_end, cut + place - own, place)
    before = place[:, None] <= place[..., None]
    visible = ~is_end[:, None] | (is_end[..., None] & (place < own + ends)[:, None])
    own_of_end = ~is_end[..., None] | is_end[:, None] | (place < cut)[:, None]
    allowed = torch.cat([
        torch.ones(len(kept), run, seen, dtype=torch.bool),
        (torch.arange(padded) < kept)[:, None].expand(-1, run, -1),
        before & visible & own_of_end], 2)
    return TurnWindow(allowed[:, None], seen + kept + behind)


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
