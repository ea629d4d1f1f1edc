"""Clips of a video one after another, each with a conversation and a memory of its own."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import islice

from glus_mm.models.inference import MaskPrediction, VideoSession
from glus_mm.models.propagators.base_propagator import BasePropagator
from glus_mm.models.segmentors import GLUS
from glus_mm.registry import MODELS
from glus_mm.structures import RefVOSDataSample
from glus_mm.utils.checked import checked
from glus_mm.video import ReorderedReader

FRAMES = ('spread', 'consecutive')


@MODELS.register_module()
class FoldPropagator(BasePropagator):
    """Segment a video in folds of ``test_cfg.window`` frames, without a window that slides.

    What the paper's section 4.1 says of global reasoning ("divide the video into separate folds")
    and of models that work clip by clip. Each fold is a pass of its own: a new conversation and
    an empty memory bank. All folds see the same context frames. Meant for a model that was
    trained with the strategy ``'global'`` (``'spread'``) or ``'local'`` (``'consecutive'``) of
    :class:`SampleContextQueryFrames`.

    Key frames have no meaning here; one that is not the first frame is an error.

    Args:
        frames: ``'spread'``: with n folds, fold f has the frames f, f + n, f + 2n, ..., so that
            each covers the whole video; ``'consecutive'``: each fold is a clip.
    """

    def __init__(self, frames: str = 'spread') -> None:
        checked(FRAMES, 'model.test_cfg.propagator.', frames=frames)
        self.frames = frames

    def segment(self, model: GLUS, session: VideoSession, key_frames: Sequence[int]
                ) -> Iterator[tuple[int, list[int], MaskPrediction]]:
        """See :meth:`BasePropagator.segment`; frames come fold by fold."""
        if any(key_frames):
            raise ValueError('FoldPropagator takes no key frames, because it passes through a '
                             f'video fold by fold: expected the first frame, got {key_frames}')
        folds = self.folds(len(session.reader), model.test_cfg.window)
        order = [t for fold in folds for t in fold]
        view = model.init_session(
            ReorderedReader(session.reader, order),
            RefVOSDataSample(metainfo=dict(expressions=session.expressions)))
        view.context_frame_ids = [order.index(t) for t in session.context_frame_ids]
        view.keep_features(range(0))
        exps, start = list(range(len(session.expressions))), 0
        for fold in folds:
            with closing(model.propagate(view, exps, start)) as steps:
                for place, pred in islice(steps, len(fold)):
                    yield order[place], exps, pred
            start += len(fold)

    def folds(self, num_frames: int, size: int) -> list[range]:
        """Divide a video.

        Args:
            num_frames: its length T, at least 1.
            size: the most frames of a fold.

        Returns:
            The positions of each fold; together every position once.
        """
        if self.frames == 'consecutive':
            return [range(start, min(start + size, num_frames))
                    for start in range(0, num_frames, size)]
        number = -(-num_frames // size)
        return [range(first, num_frames, number) for first in range(number)]
