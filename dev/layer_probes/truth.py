"""What is true of the objects of a video: from masks and annotations, and from objects.json."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from mmengine.dataset import BaseDataset, ConcatDataset

from glus_mm.datasets import BaseRefVOSDataset
from glus_mm.utils.masks import decode_rle
from glus_mm.video import FrameReader

DIRECTIONS = ('still', 'left', 'right', 'up', 'down')
# As parts of the side: how far a centroid goes that stays, and one that clearly moves.
STAYS, MOVES = 0.03, 0.15


@dataclass(frozen=True)
class ObjectTrack:
    """One object of a video.

    Attributes:
        anno_id: its annotation.
        object_id: as the data set's expressions name it.
        masks: (T) bool (H, W); None where it cannot be seen.
        record: its entry of ``objects.json``, where the data set has one.
    """

    anno_id: str
    object_id: str
    masks: list[np.ndarray | None]
    record: dict | None = None

    def centre(self, frame_idx: int) -> np.ndarray | None:
        """Centroid (x, y) of the visible pixels as parts of the sides, or None."""
        mask = self.masks[frame_idx]
        if mask is None:
            return None
        ys, xs = mask.nonzero()
        return np.array([(xs.mean() + 0.5) / mask.shape[1], (ys.mean() + 0.5) / mask.shape[0]])

    def direction(self, frames: Sequence[int]) -> str | None:
        """The way it goes over some frames, one of :data:`DIRECTIONS`, or None where unclear.

        It stays still if its centroid stays within 3 % of the sides. It moves if it covers 15 %
        of a side without turning back, and not half as much of the other side.

        Args:
            frames: ascending positions.
        """
        centres = [centre for t in frames if (centre := self.centre(t)) is not None]
        if len(centres) < 2:
            return None
        centres = np.stack(centres)
        spread, way = np.ptp(centres, axis=0), centres[-1] - centres[0]
        if (spread <= STAYS).all():
            return 'still'
        axis = int(np.abs(way).argmax())
        size = abs(way[axis])
        if size < MOVES or spread[axis] > size + STAYS or spread[1 - axis] > size / 2:
            return None
        return (('left', 'right'), ('up', 'down'))[axis][int(way[axis] > 0)]

    def is_lit(self, frame_idx: int) -> bool | None:
        """Whether it flashes on a frame; None where the data set does not say."""
        if self.record is None:
            return None
        flash = self.record['flash']
        return flash is not None and flash[0] <= frame_idx < flash[1]


def video_of(dataset: BaseDataset | ConcatDataset, index: int) -> tuple[BaseRefVOSDataset, int]:
    """The data set that a video comes from, and its position there."""
    while isinstance(dataset, ConcatDataset):
        child, index = dataset._get_ori_dataset_idx(index)
        dataset = dataset.datasets[child]
    return dataset, index


def read_records(dataset: BaseRefVOSDataset) -> dict[str, list[dict]]:
    """``objects.json`` beside the annotation of a data set, by video; empty if there is none."""
    path = Path(dataset.ann_file).with_name('objects.json')
    return json.loads(path.read_text(encoding='utf-8')) if path.is_file() else {}


def object_tracks(dataset: BaseRefVOSDataset, index: int, reader: FrameReader,
                  records: Sequence[dict] = ()) -> list[ObjectTrack]:
    """The objects that the expressions of a video refer to.

    Args:
        dataset: with masks.
        index: position of the video.
        reader: its frames.
        records: its part of ``objects.json``.

    Returns:
        Each object once.

    Raises:
        ValueError: the data set has no masks.
    """
    info = dataset.get_data_info(index)
    if dataset.masks is None:
        raise ValueError(f'expected a data set with masks, got none of {info["video_id"]!r} '
                         f'({dataset.ann_file})')
    found: dict[str, ObjectTrack] = {}
    for expression in info['expressions']:
        for anno_id, object_id in zip(expression['anno_ids'], expression['object_ids']):
            if anno_id in found:
                continue
            one = dict(expression, anno_ids=(anno_id, ))
            masks = [_visible(dataset.masks.rles(one, t, reader.shape))
                     for t in range(len(reader))]
            found[anno_id] = ObjectTrack(anno_id, object_id, masks,
                                         records[int(object_id)] if records else None)
    return list(found.values())


def _visible(rles: list[dict]) -> np.ndarray | None:
    mask = decode_rle(rles[0]) if rles else None
    return mask if mask is not None and mask.any() else None
