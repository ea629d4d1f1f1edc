"""Key frames that were chosen before, from a file."""

import logging

import torch
from mmengine.logging import print_log

from glus_mm.models.selectors.base_key_frame_selector import BaseKeyFrameSelector, KeyFrames
from glus_mm.registry import MODELS
from glus_mm.structures import RefVOSDataSample
from glus_mm.utils.checked import checked
from glus_mm.utils.key_frames import KeyFrameFile, MissingEntryError
from glus_mm.video import FrameReader

MISSING = ('error', 'first', 'middle')


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
