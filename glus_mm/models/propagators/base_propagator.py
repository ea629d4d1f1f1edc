"""How masks get from the key frame to the other frames of a video."""

from abc import ABCMeta, abstractmethod
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from glus_mm.models.heads import MemoryBank
from glus_mm.models.inference import MaskPrediction, VideoSession
from glus_mm.models.inference.together import Steps
from glus_mm.models.segmentors import GLUS
from glus_mm.registry import MODELS, build_child


class BasePropagator(metaclass=ABCMeta):
    """Interface of propagators; ``model.test_cfg.propagator`` chooses one.

    A propagator holds no state of a video: that is the session's, or lives in the call.
    ``takes_masks`` says whether it starts from ``session.key_masks`` where they are given;
    ``networks`` are those with weights of their own, once they are loaded.
    """

    takes_masks = False
    networks: tuple[nn.Module, ...] = ()

    def load(self, device: torch.device) -> None:  # noqa: B027 - most have no weights
        """Load ``networks`` if that was not done yet, see :meth:`GLUS.prepare`."""

    @abstractmethod
    def segment(self, model: GLUS, session: VideoSession, key_frames: Sequence[int]
                ) -> Iterator[tuple[int, list[int], MaskPrediction]]:
        """Segment every frame for every expression.

        Args:
            model: which finds the objects.
            session: state of the video.
            key_frames: (E) 0-based positions, checked.

        Yields:
            ``(frame_idx, exp_indices, prediction)``, each frame once for each expression.
        """

    def propagate(self, model: GLUS, session: VideoSession, exp_indices: Sequence[int],
                  start: int = 0, reverse: bool = False
                  ) -> Iterator[tuple[int, MaskPrediction]]:
        """See :meth:`GLUS.propagate`, which is :class:`GLUSPropagator` whatever this one does."""
        frame_by_frame = build_child(MODELS, dict(type='GLUSPropagator'))
        return frame_by_frame.propagate(model, session, exp_indices, start, reverse)

    def steps(self, model: GLUS, session: VideoSession, key_frames: Sequence[int]) -> Steps:
        """As :meth:`segment`, with the work that several videos may have done at once.

        A propagator that does not override this does all its work itself, video by video.
        """
        yield from self.segment(model, session, key_frames)


@dataclass
class Track:
    """State of one expression in one pass over the frames.

    Attributes:
        expression: its position among those of the session.
        text: what it says.
        start: the frame where it starts.
        memory: what was stored of the frames so far.
        step: number of frames that are done.
        tokens: of frames to come: seg token (C), whether it is a ``[SEG]``, and its probability.
        answers: whether ``[SEG]`` was the answer on the frames that have a token, the newest last,
            at most as many as the window; only with ``model.existence='answer'``, where it is the
            history. Begins with the one to be expected on the first frame: the last answer is the
            likely next one.
        kept: with ``window_cache='turns'`` what the MLLM keeps of the turns so far.
    """

    expression: int
    text: str
    start: int
    memory: MemoryBank
    step: int = 0
    tokens: deque[tuple[Tensor, Tensor, Tensor]] = field(default_factory=deque)
    answers: list[bool] = field(default_factory=lambda: [True])
    kept: Any = None
