"""Where propagation starts."""

from abc import ABCMeta, abstractmethod
from dataclasses import dataclass

from torch import Tensor

from glus_mm.structures import RefVOSDataSample
from glus_mm.video import FrameReader


@dataclass(frozen=True)
class KeyFrames:
    """Key frames of the ``E`` expressions of a video of ``T`` frames.

    Attributes:
        frame_ids: (E) 0-based positions.
        scores: (E, T) what the selector expects of each frame, higher is better; nan where a
            frame was not scored. None for a selector without scores.
    """

    frame_ids: list[int]
    scores: Tensor | None = None


class BaseKeyFrameSelector(metaclass=ABCMeta):
    """Interface of key-frame selectors; ``model.test_cfg.selector`` chooses one."""

    @abstractmethod
    def select(self, reader: FrameReader, data_sample: RefVOSDataSample) -> KeyFrames:
        """Choose a key frame for each expression.

        Args:
            reader: the frames of the video.
            data_sample: its expressions, ``video_id`` and ``exp_ids``.
        """
