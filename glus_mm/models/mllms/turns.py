"""Several turns of a conversation, run as one sequence.

The prompt of a turn ends where its answer is open, for instance with a space; in the prompts of
later turns that answer is written out. So a prompt is the start of the longest one and an end of
its own. The ends stand behind the longest prompt, with a mask and positions that let each see its
own start and itself only.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

PADDING = -1


@dataclass(frozen=True)
class Turns:
    """Layout of ``N`` conversations with ``s`` turns each in sequences of length ``L``.

    Attributes:
        seen: length of the prefix, whose keys and values exist already.
        main: (N) length of the longest prompt, which starts the sequence.
        end: (N, L) which end a position belongs to, 0 in the longest prompt, ``PADDING`` behind.
        sees: (N, L) how much of the longest prompt a position sees at most.
        positions: (N, L) positions within the conversations.
        last: (N, s) where the token of each turn is predicted.
    """

    seen: int
    main: Tensor
    end: Tensor
    sees: Tensor
    positions: Tensor
    last: Tensor

    def mask(self) -> Tensor:
        """Which positions each one attends to: bool (N, 1, L, prefix + L)."""
        place = torch.arange(self.end.shape[1])
        start = (place < self.main[:, None])[:, None] & (place < self.sees[:, :, None])
        own = self.end[:, :, None] == self.end[:, None]
        allowed = (start | own) & (place <= place[:, None])
        prefix = torch.ones(*allowed.shape[:2], self.seen, dtype=torch.bool)
        return torch.cat([prefix, allowed], 2)[:, None]


def lay_out_turns(conversations: Sequence[tuple[Sequence[int], Sequence[Tensor]]],
                  length_of: Callable[[Tensor], int], seen: int) -> Turns:
    """Lay out conversations.

    Args:
        conversations: (N) for each how many ids its s prompts have in common with the last one,
            and the prompts. An end holds no frame.
        length_of: number of positions that ids take, frames counted with all their tokens.
        seen: length of the prefix.
    """
    rows = dict(end=[], sees=[], positions=[])
    main, last = [], []
    for cuts, prompts in conversations:
        length = length_of(prompts[-1])
        end, sees = [torch.zeros(length, dtype=torch.long)], [torch.full((length, ), length)]
        positions, lasts, place = [torch.arange(length)], [], length
        for number, (cut, prompt) in enumerate(zip(cuts[:-1], prompts[:-1]), 1):
            start, size = length_of(prompt[:cut]), len(prompt) - cut
            end.append(torch.full((size, ), number))
            sees.append(torch.full((size, ), start))
            positions.append(torch.arange(start, start + size))
            place += size
            lasts.append(place - 1 if size else start - 1)
        main.append(length)
        last.append([*lasts, length - 1])
        for name, parts in (('end', end), ('sees', sees), ('positions', positions)):
            rows[name].append(torch.cat(parts))
    return Turns(
        seen, torch.tensor(main), pad_sequence(rows['end'], True, PADDING),
        pad_sequence(rows['sees'], True, 0), pad_sequence(rows['positions'], True, 0) + seen,
        torch.tensor(last))
