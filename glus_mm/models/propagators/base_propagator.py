"""How masks get from the key frame to the other frames of a video."""

from abc import ABCMeta, abstractmethod
from collections.abc import Iterator, Sequence

from glus_mm.models.inference import MaskPrediction, VideoSession
from glus_mm.models.inference.together import Steps
from glus_mm.models.segmentors import GLUS
from glus_mm.registry import MODELS, build_child


class BasePropagator(metaclass=ABCMeta):
    """Interface of propagators; ``model.test_cfg.propagator`` chooses one.

    A propagator holds no state of a video: that is the session's, or lives in the call.
    ``takes_masks`` says whether it starts from ``session.key_masks`` where they are given.
    """

    takes_masks = False

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
