"""MOSE and MOSEv2, for propagators."""

import os
import os.path as osp
from typing import Any

from glus_mm.datasets.annotation_fields import get_field, parse_palette_index
from glus_mm.datasets.base_ref_vos_dataset import BaseRefVOSDataset
from glus_mm.datasets.mask_sources import PaletteMaskStore
from glus_mm.registry import DATASETS


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
