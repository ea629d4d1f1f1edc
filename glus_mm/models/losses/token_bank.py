"""A first-in, first-out store of seg tokens and of what they refer to."""

import hashlib
import json
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from glus_mm.registry import MODELS
from glus_mm.utils.checked import checked

EMPTY = -1


def token_identity(video_id: str, exp_id: str, object_ids: Sequence, frame_id: int | str
                   ) -> tuple[int, int, int]:
    """What a token refers to, as numbers that only need to be compared.

    Stable hashes of 63 bits (BLAKE2b), so that they go into an int64 tensor, mean the same in
    every process and run, and never equal ``EMPTY``. With n different things in a bank the chance
    that any two share a hash is about n^2 / 2^64: 1e-14 for 512. Nothing breaks if it happens:
    one entry of the bank is taken for one more positive or one negative less.

    Args:
        video_id: the video, with the name of its data set.
        exp_id: the expression, unique within the video.
        object_ids: the objects that it refers to, in any order; unique within the video.
        frame_id: the frame, unique within the video.

    Returns:
        ``(expression, objects, frame)``: the first is equal for tokens of one expression, the
        second for tokens of one video with the same sorted list of objects, the third for frames
        of one name, in any video.
    """
    objects = sorted(map(str, object_ids))
    return (_hash(str(video_id), str(exp_id)), _hash(str(video_id), objects), _hash(str(frame_id)))


def _hash(*parts: str | list[str]) -> int:
    digest = hashlib.blake2b(json.dumps(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, 'big') >> 1


@MODELS.register_module()
class TokenBank(nn.Module):
    """Detached tokens of the latest steps with their identities, the oldest first.

    The paper's segmentation token bank (section 4.3). All content is tensors in buffers:

    - ``tokens`` (size, C) float32, whatever the model is cast to; C is that of the first tokens;
    - ``identity`` (size, 3) int64, the columns of :func:`token_identity`; ``EMPTY`` where there is
      no entry yet.

    Entries sit at the end, the newest last. The buffers are not persistent: a checkpoint of
    weights neither holds a bank nor lacks one. Each process has its own; ``TokenBankHook`` saves
    and restores them all. :meth:`enqueue` puts new tensors in place of the old ones, so that what
    a graph or a hook still holds does not change.

    Args:
        size: capacity, the bound of this store.

    Raises:
        ValueError: the size is no positive integer.

    Examples:
        >>> import torch
        >>> from glus_mm.models.losses import TokenBank, token_identity
        >>> bank = TokenBank(size=2)
        >>> for exp in 'abc':
        ...     identity = torch.tensor([token_identity('mevis/v', exp, ['1'], 0)])
        ...     bank.enqueue(torch.full((1, 4), float(ord(exp))), identity)
        >>> len(bank), bank.tokens[:, 0].tolist()
        (2, [98.0, 99.0])
    """

    tokens: Tensor
    identity: Tensor

    def __init__(self, size: int = 512) -> None:
        super().__init__()
        checked(1, 'TokenBank.', size=size)
        self.size = size
        self.register_buffer('tokens', torch.zeros(size, 0), persistent=False)
        self.register_buffer(
            'identity', torch.full((size, 3), EMPTY, dtype=torch.long), persistent=False)

    def __len__(self) -> int:
        """Number of entries; waits for the device."""
        return int((self.identity[:, 0] != EMPTY).sum())

    def reset(self) -> None:
        """Forget all entries."""
        self.tokens = self.tokens.new_zeros(self.size, 0)
        self.identity = torch.full_like(self.identity, EMPTY)

    def enqueue(self, tokens: Tensor, identity: Tensor) -> None:
        """Add entries; the oldest ones go where there is no more room.

        Args:
            tokens: (K, C), stored as they are, without their graph.
            identity: int64 (K, 3), on the same device.

        Raises:
            ValueError: the tokens are not as wide as those in the bank, or the shapes disagree.
        """
        if tokens.ndim != 2 or identity.shape != (len(tokens), 3):
            raise ValueError('expected tokens (K, C) and identity (K, 3), got '
                             f'{tuple(tokens.shape)} and {tuple(identity.shape)}')
        width = tokens.shape[1]
        if not self.tokens.shape[1]:
            self.tokens = self.tokens.new_zeros(self.size, width)
        if self.tokens.shape[1] != width:
            raise ValueError(f'expected tokens of width {self.tokens.shape[1]}, as in the bank, '
                             f'got {width}')
        tokens = tokens.detach().to(self.tokens)
        self.tokens = torch.cat([self.tokens, tokens])[-self.size:]
        self.identity = torch.cat([self.identity, identity.to(self.identity)])[-self.size:]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> 'TokenBank':
        """Follow the model to its device, but stay in float32 when the model is cast."""
        before = self.tokens
        super()._apply(fn, recurse)
        if before.is_meta:  # to_empty() leaves arbitrary numbers behind
            self.reset()
            self.tokens = self.tokens.float()
        else:
            self.tokens = before.to(self.tokens.device)
        return self
