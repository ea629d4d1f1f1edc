"""The SAM-2 spatial memory of one expression."""

from torch import Tensor

from glus_mm.registry import MODELS


@MODELS.register_module()
class MemoryBank:
    """What was stored of earlier frames, and which of it a frame may look at.

    A plain object that belongs to one expression of one video: created in ``loss()``, held by the
    pass in ``predict()``. It keeps only entries that a later frame can still select.

    The selection is GLUS's (facts of the official code): the frame before, and of every
    ``stride``-th frame the newest ``num_memories - 1`` that lie before that one. It differs from
    stock SAM-2: no conditioning frames, no temporal position encoding, no object pointers.

    Args:
        stride: distance r of the older memories; 1 in training, 3 at inference by default.
        num_memories: the most entries that one frame selects; ``model.mask_head.memory_bank`` of a
            config sets it. Like ``stride`` at least 1, else a ValueError.

    Attributes:
        prompt (Tensor | None): (C) what prompted the latest frame, kept by :class:`TokenUpdate`.
    """

    def __init__(self, stride: int = 1, num_memories: int = 7) -> None:
        if not all(type(value) is int and value > 0 for value in (stride, num_memories)):
            raise ValueError(f'stride and num_memories must be integers of at least 1, '
                             f'got {stride!r} and {num_memories!r}')
        self.stride = stride
        self.num_memories = num_memories
        self.prompt: Tensor | None = None
        self._entries: dict[int, Tensor] = {}

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def frame_ids(self) -> list[int]:
        """Positions whose memory is stored, ascending."""
        return sorted(self._entries)

    def candidates(self, frame_idx: int) -> list[int]:
        """Positions that a frame looks at if they are stored, oldest first.

        Args:
            frame_idx: position in the pass, 0 for its first frame in either direction.
        """
        newest = (frame_idx - 2) // self.stride * self.stride
        count = min(self.num_memories - 1, newest // self.stride + 1)
        older = [newest - k * self.stride for k in range(count - 1, -1, -1)]
        return [*older, frame_idx - 1] if frame_idx else older

    def select(self, frame_idx: int) -> list[Tensor]:
        """Entries (tokens, mem_dim) for a frame, oldest first; empty where none is stored."""
        return [self._entries[i] for i in self.candidates(frame_idx) if i in self._entries]

    def add(self, frame_idx: int, entry: Tensor) -> None:
        """Store the memory of a frame and drop what no later frame can select.

        Args:
            frame_idx: position in the pass.
            entry: (tokens, mem_dim).
        """
        self._entries[frame_idx] = entry
        oldest = (frame_idx - 1) // self.stride * self.stride - \
            (self.num_memories - 2) * self.stride
        self._entries = {
            idx: kept for idx, kept in self._entries.items()
            if idx == frame_idx or (idx % self.stride == 0 and idx >= oldest)
        }
