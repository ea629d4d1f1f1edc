"""InfoNCE between seg tokens: expressions of one object attract, of other objects repel."""

from collections.abc import Sequence

import numpy as np
import torch
from mmengine.dist import all_gather, get_dist_info
from mmengine.model import BaseModule
from torch import Tensor
from torch.nn import functional as F

from glus_mm.models.losses.token_bank import EMPTY, token_identity
from glus_mm.registry import MODELS, build_child
from glus_mm.utils.checked import checked

POSITIVES = ('frame', 'video')


@MODELS.register_module()
class ObjectContrastiveLoss(BaseModule):
    """The object contrastive loss (section 4.3 of the paper), by default as the official code.

    All tokens of a step go into a bank of the latest tokens first. A token's *positives* are
    entries of another expression with the same objects, its *negatives* all other entries except
    those of its own expression. One positive p and ``num_negatives`` negatives n are drawn, the
    latter with replacement; with cosine similarities s the token's loss is

    ``-log(exp(s_p / temperature) / (exp(s_p / temperature) + sum_n exp(s_n / temperature)))``.

    The result is the mean over the tokens that have a positive and at least ``num_negatives``
    negatives; no other token counts. An expression of two objects is negative to one of the
    first object alone: lists of objects are equal or different.

    In the paper's training only MeViS takes part (``datasets=['mevis']``); by default every data
    set does whose annotation says which objects an expression refers to.

    The module does no I/O. What a run must remember to go on equally is in
    :meth:`resume_state`, which ``TokenBankHook`` saves; a state dict holds nothing of it.

    Args:
        temperature: divisor of the similarities.
        num_negatives: negatives drawn for each token, and the least that the bank must offer.
        loss_weight: factor of the result.
        bank: config of a :class:`TokenBank`; 512 tokens by default.
        positives: ``'frame'``, entries of the same frame only (official), or ``'video'``, of any
            frame.
        same_object_negatives: with ``positives='frame'``, whether entries of the same objects in
            *other* frames are negatives (official) or are left out.
        min_tokens: the loss is 0 unless so many tokens count; 2 is official.
        datasets: names of the data sets that take part; None means all. ``video_ids`` must then
            be ``'<data set>/<video>'``.
        gather: share the tokens of all processes: every bank holds the same, and the loss is the
            mean over the tokens of all processes, as if their batches were one: with
            ``sample_ids`` the very one that a single process would have, else in the order of
            the ranks. Then every process has to call the loss equally often.
        seed: seed of the draws. Without ``gather`` each process has draws of its own.

    Raises:
        ValueError: an argument is out of its range.

    Examples:
        >>> import torch
        >>> from glus_mm.models import ObjectContrastiveLoss
        >>> loss = ObjectContrastiveLoss(num_negatives=1, loss_weight=1.0)
        >>> tokens = torch.tensor([[1., 0.], [1., 0.], [0., 1.]])
        >>> objects = [['1'], ['1'], ['2']]
        >>> round(loss(tokens, ['v'] * 3, ['a', 'b', 'c'], objects, [0] * 3).item(), 4)
        0.0
        >>> len(loss.bank)
        3
    """

    # What is counted in the buffer ``tally``, in this order.
    STATISTICS = ('with_positives', 'with_negatives', 'tokens')

    def __init__(self,
                 temperature: float = 0.07,
                 num_negatives: int = 128,
                 loss_weight: float = 0.1,
                 bank: dict | None = None,
                 positives: str = 'frame',
                 same_object_negatives: bool = True,
                 min_tokens: int = 2,
                 datasets: Sequence[str] | None = None,
                 gather: bool = False,
                 seed: int = 0) -> None:
        super().__init__()
        if not temperature > 0:
            raise ValueError(f'temperature must be positive, got {temperature}')
        checked(0, seed=seed)
        checked(1, num_negatives=num_negatives, min_tokens=min_tokens)
        checked(POSITIVES, positives=positives)
        if isinstance(datasets, str):
            raise ValueError(f'datasets must be a list of names, got {datasets!r}')
        self.bank = build_child(MODELS, dict(dict(type='TokenBank'), **(bank or {})))
        if self.bank.size < num_negatives:
            raise ValueError(f'expected a bank of at least num_negatives={num_negatives} tokens, '
                             f'got {self.bank.size}')
        self.temperature = temperature
        self.num_negatives = num_negatives
        self.loss_weight = loss_weight
        self.positives = positives
        self.same_object_negatives = same_object_negatives
        self.min_tokens = min_tokens
        self.datasets = None if datasets is None else frozenset(datasets)
        self.gather = gather
        self.seed = seed
        self.calls = 0
        self.register_buffer(
            'tally', torch.zeros(len(self.STATISTICS), dtype=torch.long), persistent=False)

    def forward(self, tokens: Tensor, video_ids: Sequence[str], exp_ids: Sequence[str],
                object_ids: Sequence[Sequence], frame_ids: Sequence[int | str],
                valid: Sequence[bool] | None = None, generator: torch.Generator | None = None,
                store: bool = True, sample_ids: Sequence[int] | None = None) -> Tensor:
        """Store the tokens of a step and return their loss.

        Args:
            tokens: (K, C), of any float dtype; K may be 0. Computed in float32 at least.
            video_ids: (K) with the name of the data set, as ``'<data set>/<video>'``.
            exp_ids: (K), unique within the video.
            object_ids: (K) ids of the objects that the expression refers to, unique within the
                video. A token without any is neither stored nor counted.
            frame_ids: (K) positions or names, unique within the video.
            valid: (K) False for tokens to leave out too, such as those of a data set that does
                not identify objects; all True by default.
            generator: source of the draws; by default one of the module's own, which depends on
                ``seed``, the process and the number of calls only.
            store: False compares with the bank as it is and changes nothing, as a validation needs.
            sample_ids: (K) position in the batch of the sample that a token comes from, ascending.
                With ``gather``, sample i of process r then comes after sample i of the processes
                before r and before all samples i + 1: as the samplers of this package deal samples
                out, the bank is filled, and the draws fall, as with one process.

        Returns:
            Scalar, weighted, in float32 at least; a zero with a graph where no token counts.

        Raises:
            ValueError: the lengths disagree, or a video id names no data set where
                ``datasets`` needs it.
            TypeError: the objects of a token are not a list.
        """
        if tokens.ndim != 2:
            raise ValueError(f'expected tokens (K, C), got shape {tuple(tokens.shape)}')
        rows, identity, samples = self._identify(
            len(tokens), video_ids=video_ids, exp_ids=exp_ids, object_ids=object_ids,
            frame_ids=frame_ids, valid=[True] * len(tokens) if valid is None else valid,
            sample_ids=[0] * len(tokens) if sample_ids is None else sample_ids)
        self.calls += store
        with torch.autocast(tokens.device.type, enabled=False):
            tokens = tokens.to(torch.promote_types(tokens.dtype, torch.float32))
            tokens = tokens[torch.tensor(rows, dtype=torch.long, device=tokens.device)]
            shared = self._share(tokens.detach(), identity.to(tokens.device),
                                 samples.to(tokens.device))
            return self.loss_weight * self._contrast(
                tokens, *shared, generator or self._own_generator(), store)

    def draw(self, num_negatives: Tensor, num_positives: Tensor, generator: torch.Generator
             ) -> tuple[Tensor, Tensor]:
        """Choose among the negatives and positives of each token; override to draw otherwise.

        Args:
            num_negatives: (R) how many negatives each token has in the bank.
            num_positives: (R) likewise, at least 1.
            generator: source of the randomness.

        Returns:
            Positions ``negatives`` (R, ``self.num_negatives``) and ``positives`` (R), int64, into
            the lists of a token's negatives and positives in the order of the bank, the oldest
            first.
        """
        numbers = torch.randint(1 << 62, (len(num_negatives), self.num_negatives + 1),
                                generator=generator, device=generator.device)
        numbers = numbers.to(num_negatives.device)
        return numbers[:, :-1] % num_negatives[:, None], numbers[:, -1] % num_positives

    def statistics(self) -> dict[str, int]:
        """Numbers since the start of the training; waits for the device.

        Returns:
            ``calls`` that stored tokens; ``with_positives`` and ``with_negatives``, those calls in
            which any token had a positive, or enough negatives; ``tokens`` that counted. With
            ``gather`` they are over all processes.
        """
        return dict(zip(self.STATISTICS, self.tally.tolist()), calls=self.calls)

    def resume_state(self) -> dict[str, Tensor]:
        """All that the next call depends on, as tensors; not copied and never changed later."""
        return dict(tokens=self.bank.tokens, identity=self.bank.identity, tally=self.tally,
                    calls=torch.tensor(self.calls))

    def load_resume_state(self, state: dict[str, Tensor]) -> None:
        """Go on from a :meth:`resume_state`, also one of a bank of another size."""
        stored = state['identity'][:, 0] != EMPTY
        device = self.bank.tokens.device
        self.bank.reset()
        self.bank.enqueue(state['tokens'][stored].to(device), state['identity'][stored].to(device))
        self.tally = state['tally'].to(device)
        self.calls = int(state['calls'])

    def _identify(self, num: int, **columns: Sequence) -> tuple[list[int], Tensor, Tensor]:
        """Which tokens take part, their identities (K', 3) and samples (K'), on the CPU."""
        for name, column in columns.items():
            if len(column) != num:
                raise ValueError(f'expected {num} {name}, one for each token, got {len(column)}')
        columns = {name: column.tolist() if isinstance(column, Tensor) else column
                   for name, column in columns.items()}
        valid, samples = columns.pop('valid'), columns.pop('sample_ids')
        rows, identity = [], []
        for i, (video_id, exp_id, object_ids, frame_id) in enumerate(zip(*columns.values())):
            if not isinstance(object_ids, (list, tuple, set, frozenset)):
                raise TypeError(f'expected a list of object ids, got {object_ids!r}: token {i}, '
                                f'video {video_id!r}, expression {exp_id!r}')
            if valid[i] and len(object_ids) and self._takes_part(video_id):
                rows.append(i)
                identity.append(token_identity(video_id, exp_id, object_ids, frame_id))
        return (rows, torch.tensor(identity, dtype=torch.long).reshape(-1, 3),
                torch.tensor([samples[i] for i in rows], dtype=torch.long))

    def _takes_part(self, video_id: str) -> bool:
        if self.datasets is None:
            return True
        dataset, separator, _ = video_id.partition('/')
        if not separator:
            raise ValueError("expected video ids '<data set>/<video>', as datasets="
                             f'{sorted(self.datasets)} asks, got {video_id!r}')
        return dataset in self.datasets

    def _own_generator(self) -> torch.Generator:
        rank = 0 if self.gather else get_dist_info()[0]
        seed = np.random.SeedSequence((self.seed, rank, self.calls)).generate_state(1, np.uint64)
        return torch.Generator().manual_seed(int(seed[0]) >> 1)

    def _share(self, tokens: Tensor, identity: Tensor, samples: Tensor
               ) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens (A, C) and identities (A, 3) of all processes, and which of them are own ones.

        The third says for each of the A which of the K' tokens of this process it is, else -1.
        """
        index = torch.arange(len(tokens), device=tokens.device)
        if not self.gather:
            return tokens, identity, index
        rank, _ = get_dist_info()
        parts = _gather_rows(torch.cat([identity, samples[:, None]], 1))
        own = torch.cat([index if r == rank else index.new_full((len(part), ), -1)
                         for r, part in enumerate(parts)])
        tokens, identity = torch.cat(_gather_rows(tokens)), torch.cat(parts)
        # A stable sort leaves equal samples in the order of the processes.
        order = identity[:, 3].argsort(stable=True)
        return tokens[order], identity[order, :3], own[order]

    def _contrast(self, tokens: Tensor, shared: Tensor, identity: Tensor, own: Tensor,
                  generator: torch.Generator, store: bool) -> Tensor:
        """Mean loss of the tokens (K', C) that count; the rest is what :meth:`_share` returned."""
        world_size = get_dist_info()[1] if self.gather else 1
        if store:
            self.bank.enqueue(shared, identity)
        positive, negative = self._match(identity)
        num_positive, num_negative = positive.sum(1), negative.sum(1)
        enough = num_negative >= self.num_negatives
        counting = ((num_positive > 0) & enough).nonzero()[:, 0]
        if store:
            self.tally = self.tally + torch.stack([
                (num_positive > 0).any(), enough.any(), self.tally.new_tensor(len(counting))])
        if len(counting) < self.min_tokens:
            return tokens[:0].sum()
        negatives, positives = self.draw(
            num_negative[counting], num_positive[counting], generator)
        columns = torch.cat([
            _nth(positive[counting], positives.to(tokens.device)[:, None]),
            _nth(negative[counting], negatives.to(tokens.device))], 1)
        own = own[counting]
        bank = F.normalize(self.bank.tokens.to(tokens), dim=1, eps=1e-8)
        similarity = F.normalize(tokens[own[own >= 0]], dim=1, eps=1e-8) @ bank.T
        logits = (similarity / self.temperature).gather(1, columns[own >= 0])
        losses = logits.logsumexp(1) - logits[:, 0]
        # The mean over all processes, as the gradients of the processes are averaged.
        return losses.sum() * (world_size / len(counting))

    def _match(self, identity: Tensor) -> tuple[Tensor, Tensor]:
        """Which entries of the bank are positives and negatives of tokens (A, 3): bool (A, S)."""
        expression, objects, frame = (identity[:, None] == self.bank.identity).unbind(2)
        other = ~expression & (self.bank.identity[:, 0] != EMPTY)
        same = other & objects
        positive = same if self.positives == 'video' else same & frame
        excluded = positive if self.same_object_negatives else same
        return positive, other & ~excluded


def _nth(mask: Tensor, positions: Tensor) -> Tensor:
    """Column of the n-th True of each row; mask bool (R, S), positions n (R, J) from 0."""
    return torch.searchsorted(mask.cumsum(1), positions + 1)


def _gather_rows(rows: Tensor) -> list[Tensor]:
    """(K, ...) of every process, whose K may differ; K may be 0."""
    numbers = torch.cat(all_gather(torch.tensor([len(rows)], device=rows.device))).tolist()
    padded = rows.new_zeros(max(numbers), *rows.shape[1:])
    padded[:len(rows)] = rows
    return [part[:number] for part, number in zip(all_gather(padded), numbers)]

