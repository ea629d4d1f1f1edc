"""Key-frame selectors without weights, and their base."""

import logging
from abc import ABCMeta, abstractmethod
from dataclasses import dataclass

import torch
from mmengine.logging import print_log
from torch import Tensor

from glus_mm.registry import MODELS
from glus_mm.structures import RefVOSDataSample
from glus_mm.utils.checked import checked
from glus_mm.utils.key_frames import KeyFrameFile, MissingEntryError
from glus_mm.video import FrameReader

MISSING = ('error', 'first', 'middle')


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


def reference_frames(target: int, num_frames: int, num_reference: int) -> list[int]:
    """Every ``ceil(T / (n - 1))``-th frame, phased so that the target is among them.

    The official rule of inference. Frames whose positions differ by a multiple of the distance
    have the same reference frames, which are these very frames.

    Args:
        target: 0-based position of the frame to score.
        num_frames: length T of the video.
        num_reference: n, the most there can be, at least 2.

    Returns:
        Positions in the order of time, at most ``num_reference``.

    Raises:
        ValueError: a number is out of its range.
    """
    if num_reference < 2:
        raise ValueError(f'expected at least 2 reference frames, got {num_reference}')
    if not 0 <= target < num_frames:
        raise ValueError(f'expected a frame in 0..{num_frames - 1}, got {target}')
    step = -(-num_frames // (num_reference - 1))
    return list(range(target % step, num_frames, step))


@MODELS.register_module()
class FirstFrameSelector(BaseKeyFrameSelector):
    """The first frame for every expression: one forward pass over the video."""

    def select(self, reader: FrameReader, data_sample: RefVOSDataSample) -> KeyFrames:
        """See :meth:`BaseKeyFrameSelector.select`."""
        return KeyFrames([0] * len(data_sample.expressions))


@MODELS.register_module()
class FileKeyFrameSelector(BaseKeyFrameSelector):
    """Key frames from a JSON file, such as ``tools/test.py`` writes with a trained selector.

    Args:
        file: in one of the layouts of :class:`glus_mm.utils.key_frames.KeyFrameFile`, the
            official ``{"<video>_<exp>": frame number}`` among them.
        missing: what to do where the file has no entry, or names a frame that the video does not
            have: ``'error'``, or start at the ``'first'`` or the ``'middle'`` (T // 2) frame, which
            is logged. A file of another data set is an error in any case, where that shows.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is of none of the layouts, or ``missing`` is unknown.
    """

    def __init__(self, file: str, missing: str = 'error') -> None:
        checked(MISSING, missing=missing)
        self.missing = missing
        self.file = KeyFrameFile(file)

    def select(self, reader: FrameReader, data_sample: RefVOSDataSample) -> KeyFrames:
        """See :meth:`BaseKeyFrameSelector.select`.

        Raises:
            ValueError: an entry is missing with ``missing='error'``, or the file is that of
                another data set; names file, video and expression.
        """
        names = list(data_sample.get('frame_names') or reader.frame_names)
        dataset = data_sample.get('dataset')
        # A video of GLUSInferencer's belongs to no data set.
        place = (None if dataset == 'user' else dataset, data_sample.video_id)
        frame_ids, scores = [], []
        for exp_id in data_sample.exp_ids:
            try:
                frame_ids.append(self.file.frame_id(*place, exp_id, names))
                scores.append(self.file.frame_scores(*place, exp_id, names))
            except MissingEntryError as error:
                if self.missing == 'error':
                    raise
                frame_ids.append(0 if self.missing == 'first' else len(names) // 2)
                scores.append([float('nan')] * len(names) if self.file.scores else None)
                print_log(f'{error}; starts at the {self.missing} frame', 'current',
                          logging.WARNING)
        if self.file.scores is None:
            return KeyFrames(frame_ids)
        return KeyFrames(frame_ids, torch.stack(
            [torch.as_tensor(row, dtype=torch.float32) for row in scores]))
