"""Benchmarks that are tested on only: GroundMoRe, MOSE for propagators, ReasonVOS."""

import os
import os.path as osp
import re
from typing import Any

import numpy as np

from glus_mm.datasets.annotation_fields import (
    check_name,
    check_unique,
    get_field,
    parse_id,
    parse_palette_index,
)
from glus_mm.datasets.base_ref_vos_dataset import BaseRefVOSDataset
from glus_mm.datasets.mask_sources import BinaryMaskStore, PaletteMaskStore, WindowedMaskStore
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


@DATASETS.register_module()
class MOSEDataset(BaseRefVOSDataset):
    """MOSEv2 (https://github.com/henghuiding/MOSE-api), whose objects are given by a mask.

    ::

        data_root/
          meta.json                          {"videos": {video: {"objects": ["1", ...],
                                             "length": 60}}}
          JPEGImages/<video>/<frame>.jpg
          Annotations/<video>/<frame>.png    palette index = number of the object

    There are no words: each object stands where other data sets have an expression, with its
    number as id, and ``LoadKeyMasks`` gives the mask that a propagator starts from. The videos are
    those below ``Annotations``.

    It serves for testing only: ``test_mode`` must be True. For the arguments and errors see
    :class:`BaseRefVOSDataset`.
    """

    METAINFO: dict = dict(dataset='mose_v2')
    ANN_FILE: str = 'meta.json'
    DATA_PREFIX: dict = dict(img='JPEGImages', mask='Annotations')
    MASKS = PaletteMaskStore
    TEST_ONLY: str = 'MOSE has no expressions to train on'

    def expression_items(self, video: dict, where: str) -> list[tuple[str, Any]]:
        """An entry for each number of an object.

        Raises:
            ValueError: a number is listed twice, or is none.
        """
        numbers = [parse_palette_index(dict(objects=number), 'objects', where)
                   for number in get_field(video, 'objects', list, where)]
        if len(set(numbers)) != len(numbers):
            raise ValueError(f"{where}, key 'objects': expected each number once, got {numbers}")
        return [(number, {self.TEXT_KEY: f'object {number}'}) for number in numbers]

    def parse_target(self, exp_id: str, entry: dict, video: dict, where: str) -> dict:
        """The object of that number; see the base class."""
        return dict(object_ids=(exp_id, ), anno_ids=(exp_id, ), kind=None,
                    frame_names=video['frame_names'])

    def _read_videos(self, path: str) -> dict:
        listed, folder = super()._read_videos(path), self.data_prefix['mask']
        try:
            names = sorted(name for name in os.listdir(folder) if not name.startswith('.'))
        except OSError as error:
            raise FileNotFoundError(f'{folder}: expected the annotations of MOSE, but it cannot be '
                                    f'read: {error.strerror}') from error
        videos = {}
        for name in names:
            where = f'{path}: video {name!r}'
            entry = get_field(listed, name, dict, path)
            frames = [file.removesuffix('.png') for file in os.listdir(osp.join(folder, name))
                      if file.endswith('.png')]
            if not frames or not all(frame.isdecimal() for frame in frames):
                raise ValueError(f'{where}: expected PNG files with a number as name in '
                                 f'{osp.join(folder, name)}, got {sorted(frames)[:8]}')
            videos[name] = dict(entry, frames=sorted(frames, key=int))
        if not videos:
            raise ValueError(f'{folder}: expected the folder of at least one video, got none')
        return videos


@DATASETS.register_module()
class ReasonVOSDataset(BaseRefVOSDataset):
    """ReasonVOS (https://github.com/showlab/VideoLISA) in its official layout.

    ::

        data_root/
          meta_expressions.json
                {"videos": {video: {"source": ..., "frames": [...], "expressions": [
                    {"exp_text": ..., "obj_id": 0, "exp_id": 0}]}}}
          JPEGImages/<video>/<frame>.jpg
          Annotations/<source>_<video>_<obj_id>/<frame>.png    not black = object

    Frames stay in the order of the annotation. The id of an expression is its ``exp_id``, after
    which the official evaluation looks for predictions, and its place in the list where it has
    none. The folder with the masks may have the source's name in lower case.

    It serves for testing only: ``test_mode`` must be True. For the arguments and errors see
    :class:`BaseRefVOSDataset`.
    """

    METAINFO: dict = dict(dataset='reason_vos')
    DATA_PREFIX: dict = dict(img='JPEGImages', mask='Annotations')
    TEXT_KEY: str = 'exp_text'
    MASKS = BinaryMaskStore
    TEST_ONLY: str = 'ReasonVOS is a benchmark without a training split'

    def expression_items(self, video: dict, where: str) -> list[tuple[str, Any]]:
        """Ids and entries of a video's expressions, which are a list, or a dict with ids.

        Raises:
            ValueError: an id is no number.
        """
        if isinstance(video.get('expressions'), dict):
            return super().expression_items(video, where)
        entries = get_field(video, 'expressions', list, where)
        items = []
        for place, entry in enumerate(entries):
            exp_id = place
            if isinstance(entry, dict) and 'exp_id' in entry:
                exp_id = entry['exp_id']
            if type(exp_id) not in (int, str):
                raise ValueError(f"{where}, expression {place} of the list, key 'exp_id': "
                                 f'expected a number, got {exp_id!r:.80}')
            items.append((str(exp_id), entry))
        check_unique([exp_id for exp_id, _ in items], f"{where}, key 'exp_id' of its expressions")
        return items

    def parse_video(self, entry: dict, where: str) -> dict:
        """Parse ``source``, after which the folders of the masks are named; see the base class."""
        source = get_field(entry, 'source', str, where)
        check_name(source, f"{where}, key 'source'")
        return dict(mask_source=source)

    def parse_target(self, exp_id: str, entry: dict, video: dict, where: str) -> dict:
        """Parse ``obj_id`` and find the folder of the masks; see the base class."""
        object_id, source = parse_id(entry, 'obj_id', where), video['mask_source']
        anno_ids: tuple[str, ...] = ()
        if self.masks is not None:
            names = [f'{name}_{video["video_id"]}_{object_id}'
                     for name in (source, source.lower())]
            found = next((name for name in names
                          if osp.isdir(osp.join(self.masks.path, name))), names[0])
            anno_ids = (self.check_mask_folder(found, where), )
        return dict(object_ids=(object_id, ), anno_ids=anno_ids, kind=None,
                    frame_names=video['frame_names'])
