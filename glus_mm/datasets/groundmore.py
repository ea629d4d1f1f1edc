"""GroundMoRe."""

import os
import os.path as osp
import re
from typing import Any

import numpy as np

from glus_mm.datasets.annotation_fields import check_name, get_field, parse_palette_index
from glus_mm.datasets.base_ref_vos_dataset import BaseRefVOSDataset
from glus_mm.datasets.mask_sources import WindowedMaskStore
from glus_mm.registry import DATASETS

NUM_FRAMES = 20
"""Frames of a clip that the official evaluation of GroundMoRe looks at, evenly spaced."""
FRAMES_PER_SECOND = 6


@DATASETS.register_module()
class GroundMoReDataset(BaseRefVOSDataset):
    """The test split of GroundMoRe (https://github.com/dengandong/GroundMoRe).

    ::

        data_root/
          test_v2.json   {"videos": {video: {"questions": {id: {"question": ..., "obj_id": "1",
                         "q_type": "Causal", "action_start": "0:12", "action_end": "0:15"}}}}}
          annotations/<video>/images/<frame>.jpg
          annotations/<video>/masks/<frame>.png      value = obj_id

    The id of a video ends with the span of time it was cut from, as in ``abc_0010_0025`` (0:10 to
    0:25); its frames are ``frame_000000`` or ``0000000`` on, 6 a second. As in the official
    evaluation, 20 evenly spaced frames are the video, and a question has a target only from
    ``action_start`` to ``action_end``; that script counts frames of a clip of less than 20 more
    than once, here each counts once. The text of an expression is its question, and its kind
    ``q_type``: 'Causal', 'Sequential', 'Counterfactual' or 'Descriptive'.

    It serves for testing only: ``test_mode`` must be True. For the arguments and errors see
    :class:`BaseRefVOSDataset`.
    """

    METAINFO: dict = dict(dataset='groundmore')
    ANN_FILE: str = 'test_v2.json'
    DATA_PREFIX: dict = dict(img='annotations', mask='annotations')
    TEXT_KEY: str = 'question'
    MASKS = WindowedMaskStore
    TEST_ONLY: str = 'only the test split of GroundMoRe is read'

    def image_file(self, video_id: str, frame: str) -> str:
        """Path of an image; see the base class."""
        return osp.join(self.data_prefix['img'], video_id, 'images', f'{frame}.jpg')

    def expression_items(self, video: dict, where: str) -> list[tuple[str, Any]]:
        """Ids and entries of a video's questions."""
        return list(get_field(video, 'questions', dict, where).items())

    def parse_video(self, entry: dict, where: str) -> dict:
        """Parse the numbers of the frames; see the base class."""
        return dict(frame_numbers=entry['frame_numbers'])

    def parse_target(self, exp_id: str, entry: dict, video: dict, where: str) -> dict:
        """Parse ``obj_id``, ``q_type`` and the span of time; see the base class."""
        value = get_field(entry, 'obj_id', object, where)
        numbers = value.split(', ') if isinstance(value, str) else [value]
        object_ids = tuple(dict.fromkeys(
            parse_palette_index(dict(obj_id=number), 'obj_id', where) for number in numbers))
        kind = get_field(entry, 'q_type', str, where)
        begin = _clip_start(video['video_id'], where)
        start, end = (FRAMES_PER_SECOND * (_seconds(entry, key, where) - begin)
                      for key in ('action_start', 'action_end'))
        return dict(object_ids=object_ids, anno_ids=() if self.masks is None else object_ids,
                    kind=kind, frame_names=video['frame_names'],
                    frame_numbers=video['frame_numbers'], window=(start, end - 1))

    def _read_videos(self, path: str) -> dict:
        videos = super()._read_videos(path)
        for video_id, video in videos.items():
            where = f'{path}: video {video_id!r}'
            check_name(video_id, where)
            if isinstance(video, dict):
                names = self._list_frames(video_id, where)
                numbers = np.linspace(0, len(names) - 1, NUM_FRAMES, dtype=int).tolist()
                numbers = list(dict.fromkeys(numbers))
                video['frames'] = [names[number] for number in numbers]
                video['frame_numbers'] = numbers
        return videos

    def _list_frames(self, video_id: str, where: str) -> list[str]:
        """Names of all frames of a clip, which are counted from 0."""
        folder = osp.dirname(self.image_file(video_id, ''))
        try:
            found = {name.removesuffix('.jpg') for name in os.listdir(folder)
                     if name.endswith('.jpg')}
        except OSError as error:
            raise FileNotFoundError(f'{where}: expected the frames of the video in {folder}, but '
                                    f'it cannot be read: {error.strerror}') from error
        if not found:
            raise ValueError(f'{where}: expected the frames of the video in {folder}, got none')
        form = 'frame_{:06d}' if min(found).startswith('frame_') else '{:07d}'
        names = [form.format(number) for number in range(len(found))]
        absent = next((name for name in names if name not in found), None)
        if absent is not None:
            raise ValueError(f'{where}: expected {len(names)} frames from {names[0]!r} to '
                             f'{names[-1]!r} in {folder}, got no {absent!r}')
        return names


def _clip_start(video_id: str, where: str) -> int:
    """The second at which a clip begins, from the end of its id: ``_MMSS_MMSS``."""
    match = re.search(r'([0-9]{2})([0-9]{2})_[0-9]{4}$', video_id)
    if match is None:
        raise ValueError(f'{where}: expected the id of a video to end with the span of time that '
                         f'it was cut from, as in "_0010_0025", got {video_id!r}')
    return 60 * int(match[1]) + int(match[2])


def _seconds(entry: dict, key: str, where: str) -> int:
    """A time such as '1:05' or '0:01:05'."""
    text = get_field(entry, key, str, where)
    if re.fullmatch(r'[0-9]{1,4}(:[0-9]{1,2}){0,2}', text) is None:
        raise ValueError(f"{where}, key {key!r}: expected a time such as '1:05', got {text!r:.80}")
    seconds = 0
    for part in text.split(':'):
        seconds = 60 * seconds + int(part)
    return seconds
