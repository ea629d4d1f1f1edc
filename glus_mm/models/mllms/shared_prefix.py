"""Conversations that begin alike, run as one sequence: their beginning is computed once.

The conversations of a video show the same context frames, and the first query frame before the
expression comes up. A causal model never looks ahead, so that this prefix does not depend on what
follows it. It stands once in a sequence, and behind it the rest of each conversation, with a mask
and positions that let every rest see the prefix and itself only.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

PADDING = -1


@dataclass(frozen=True)
class SharedPrefix:
    """Layout of ``N`` conversations in ``G`` sequences of length ``L``.

    Attributes:
        row: (N) which sequence holds each conversation.
        prefix: (N) length of its prefix, which starts the sequence.
        start: (N) where its rest starts.
        length: (N) its whole length.
        part: (G, L) 0 in a prefix, 1, 2, ... in the rests, ``PADDING`` behind them.
        positions: (G, L) positions within the conversations.
    """

    row: Tensor
    prefix: Tensor
    start: Tensor
    length: Tensor
    part: Tensor
    positions: Tensor

    @property
    def size(self) -> int:
        """Number of positions of all sequences."""
        return self.part.numel()

    def mask(self) -> Tensor:
        """Which positions each one attends to: bool (G, 1, L, L)."""
        allowed = (self.part[:, None, :] == 0) | (self.part[:, None, :] == self.part[:, :, None])
        return allowed.tril()[:, None]

    def index(self, length: int) -> Tensor:
        """Where the positions of the conversations are in the flattened sequences.

        Args:
            length: padded length of the conversations.

        Returns:
            (N, length); padding points to the first position of a sequence.
        """
        place = torch.arange(length).expand(len(self.row), -1)
        prefix = self.prefix[:, None]
        inside = torch.where(place < prefix, place, place - prefix + self.start[:, None])
        inside = inside.masked_fill(place >= self.length[:, None], 0)
        return self.row[:, None] * self.part.shape[1] + inside


def lay_out(lengths: Sequence[int], prefixes: Sequence[int], groups: Sequence[int]
            ) -> SharedPrefix:
    """Put conversations into sequences.

    Args:
        lengths: (N) of the conversations.
        prefixes: (N) how much of each the conversations of its group have in common.
        groups: (N) equal for conversations that share their prefix; the numbers 0..G-1 come up
            in this order.

    Returns:
        The layout; the rests stand in the order of the conversations.
    """
    parts: list[list[Tensor]] = []
    positions: list[list[Tensor]] = []
    start = []
    for length, prefix, group in zip(lengths, prefixes, groups):
        if group == len(parts):
            parts.append([torch.zeros(prefix, dtype=torch.long)])
            positions.append([torch.arange(prefix)])
        start.append(sum(map(len, parts[group])))
        parts[group].append(torch.full((length - prefix, ), len(parts[group])))
        positions[group].append(torch.arange(prefix, length))
    return SharedPrefix(
        row=torch.tensor(groups), prefix=torch.tensor(prefixes), start=torch.tensor(start),
        length=torch.tensor(lengths), part=_stack(parts, PADDING), positions=_stack(positions, 0))


def common_prefix(rows: Sequence[Tensor]) -> int:
    """Number of leading ids that all rows have in common.

    Args:
        rows: each (L).
    """
    length = min(map(len, rows))
    equal = torch.stack([row[:length] == rows[0][:length] for row in rows]).all(0)
    return int(equal.long().cumprod(0).sum())


def _stack(rows: Sequence[Sequence[Tensor]], value: int) -> Tensor:
    return pad_sequence([torch.cat(list(row)) for row in rows], True, value)
