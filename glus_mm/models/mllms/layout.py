"""Conversations that begin alike, run as one sequence: what they have in common is computed once.

A causal model never looks ahead, so that what conversations begin with does not depend on what
follows it. It stands once in a sequence, and behind it what each conversation has of its own, with
a mask and positions that let each see its own beginning and itself only. That serves

- training, where the conversations of a video show the same context frames, and the first query
  frame before the expression comes up;
- several turns of a conversation at once: the prompt of a turn ends where its answer is open, for
  instance with a space; in the prompts of later turns that answer is written out. So a prompt is
  the beginning of the longest one and an end of its own;
- a stream, whose newest turn goes on from what is kept of the turns before.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

PADDING = -1


@dataclass(frozen=True)
class Layout:
    """Layout of ``N`` conversations in ``G`` sequences of length ``L``.

    Each sequence has a trunk, from which the conversations branch off.

    Attributes:
        row: (N) which sequence holds each conversation.
        cut: (N) how much of it stands in the trunk.
        start: (N) where its branch starts.
        length: (N) its whole length.
        branch: (G, L) 0 in the trunk, 1, 2, ... in the branches, ``PADDING`` behind them.
        sees: (G, L) how much of the trunk a position sees at most.
        positions: (G, L) positions within the conversations, what went before included.
        before: bool (G, K) which of the keys that exist already a sequence sees.
    """

    row: Tensor
    cut: Tensor
    start: Tensor
    length: Tensor
    branch: Tensor
    sees: Tensor
    positions: Tensor
    before: Tensor

    @property
    def size(self) -> int:
        """Number of positions of all sequences."""
        return self.branch.numel()

    def mask(self) -> Tensor:
        """Which keys each position attends to: bool (G, 1, L, K + L)."""
        place = torch.arange(self.branch.shape[1])
        own = self.branch[:, :, None] == self.branch[:, None]
        allowed = (own | (place < self.sees[:, :, None])) & (place <= place[:, None])
        before = self.before[:, None].expand(-1, allowed.shape[1], -1)
        return torch.cat([before, allowed], 2)[:, None]

    def index(self, length: int) -> Tensor:
        """Where the positions of the conversations are in the flattened sequences.

        Returns:
            (N, length); padding points to the first position of a sequence.
        """
        place, cut = torch.arange(length).expand(len(self.row), -1), self.cut[:, None]
        inside = torch.where(place < cut, place, place - cut + self.start[:, None])
        inside = inside.masked_fill(place >= self.length[:, None], 0)
        return self.row[:, None] * self.branch.shape[1] + inside

    @property
    def last(self) -> Tensor:
        """Where the last positions (N) of the conversations are in the flattened sequences."""
        return self.index(int(self.length.max()))[torch.arange(len(self.row)), self.length - 1]


def lay_out(lengths: Sequence[int], cuts: Sequence[int], groups: Sequence[int], seen: int = 0,
            kept: Sequence[int] | None = None, padded: int = 0) -> Layout:
    """Put conversations into sequences.

    Args:
        lengths: (N) of the conversations.
        cuts: (N) how much of each is a beginning of the trunk of its group, which is as long as
            the longest of them.
        groups: (N) which sequence each conversation belongs to, 0..G-1.
        seen: number of keys that exist already and that all see.
        kept: (G) how many further ones each sequence sees, padded on the right; None for none.
        padded: what these are padded to.

    Returns:
        The layout; branches stand in the order of the conversations.
    """
    trunks = [max(cut for cut, g in zip(cuts, groups) if g == group)
              for group in range(max(groups) + 1)]
    branch = [[torch.zeros(trunk, dtype=torch.long)] for trunk in trunks]
    sees = [[torch.full((trunk, ), trunk)] for trunk in trunks]
    positions, start = [[torch.arange(trunk)] for trunk in trunks], []
    for length, cut, group in zip(lengths, cuts, groups):
        start.append(sum(map(len, branch[group])))
        branch[group].append(torch.full((length - cut, ), len(branch[group])))
        sees[group].append(torch.full((length - cut, ), cut))
        positions[group].append(torch.arange(cut, length))
    before, first = torch.ones(len(trunks), seen, dtype=torch.bool), torch.full((1, 1), seen)
    if kept is not None:
        own = torch.tensor(kept)[:, None]
        before = torch.cat([before, torch.arange(padded) < own], 1)
        first = first + own
    return Layout(
        row=torch.tensor(groups), cut=torch.tensor(cuts), start=torch.tensor(start),
        length=torch.tensor(lengths), branch=_stack(branch, PADDING), sees=_stack(sees, 0),
        positions=_stack(positions, 0) + first, before=before)


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


def branches(prefixes: Sequence[DynamicCache | None]) -> DynamicCache | None:
    """A cache for sequences that go on from prefixes.

    Args:
        prefixes: (N) the prefix of each, batch size 1, all equally long; they are not changed, as
            a layer replaces its tensors where it grows. One prefix for all is not copied.

    Returns:
        The cache, with the attributes of the prefix; None without one.
    """
    if prefixes[0] is None:
        return None
    first = prefixes[0]
    if all(prefix is first for prefix in prefixes):
        return _with_rows(first, lambda i, name: getattr(first.layers[i], name).expand(
            len(prefixes), -1, -1, -1))
    return _with_rows(first, lambda i, name: torch.cat(
        [getattr(prefix.layers[i], name) for prefix in prefixes]))


def pick(cache: DynamicCache, rows: slice | list[int]) -> DynamicCache:
    """Some of the sequences of a cache."""
    return _with_rows(cache, lambda i, name: getattr(cache.layers[i], name)[rows])


def _with_rows(cache: DynamicCache, values: Callable[[int, str], Tensor]) -> DynamicCache:
    """A cache like this one with other keys and values, ``values(layer, 'keys' or 'values')``."""
    made = copy.copy(cache)
    made.layers = []
    for i in range(len(cache.layers)):
        layer = DynamicLayer()
        keys, states = values(i, 'keys'), values(i, 'values')
        layer.lazy_initialization(keys, states)
        layer.keys, layer.values = keys, states
        made.layers.append(layer)
    return made
