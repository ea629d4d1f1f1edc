"""What studies of a checkpoint share: their command line, the model, the videos of its test set."""

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
from mmengine import Config
from mmengine.dataset import ConcatDataset
from mmengine.registry import DefaultScope

from glus_mm.apis import init_model
from glus_mm.datasets import BaseRefVOSDataset
from glus_mm.models import GLUS
from glus_mm.registry import DATASETS, SCOPE
from glus_mm.structures import RefVOSDataSample
from glus_mm.utils.command_line import read_config
from glus_mm.utils.config_input import ConfigOptions
from glus_mm.utils.masks import decode_rle
from glus_mm.utils.paths import ensure_writable_file
from glus_mm.video import FrameReader

DIRECTIONS = ('still', 'left', 'right', 'up', 'down')
# As parts of the side: how far a centroid goes that stays, and one that clearly moves.
STAYS, MOVES = 0.03, 0.15


def study_parser(description: str, out: str = 'write every number into this file'
                 ) -> argparse.ArgumentParser:
    """The command line of a study; ``out`` says what ``--out`` is for."""
    parser = argparse.ArgumentParser(description=description.partition('\n')[0])
    parser.add_argument('config', metavar='CONFIG', help='config file')
    parser.add_argument('checkpoint', metavar='CHECKPOINT', help='as for tools/test.py')
    parser.add_argument('--device', default='cpu', help='default: %(default)s')
    parser.add_argument('--videos', type=int, metavar='N', help='only the first N videos')
    parser.add_argument('--out', metavar='F.json', help=out)
    parser.add_argument('--cfg-options', nargs='+', action=ConfigOptions, metavar='K=V',
                        help='override config values')
    return parser


def load_study(args: argparse.Namespace) -> tuple[Config, GLUS]:
    """Read the config and load the model; that ``--out`` can be written is checked before.

    Raises:
        ValueError: the model is not a GLUS, or something on the command line is wrong.
        OSError: a file is missing, or ``--out`` cannot be written.
    """
    if args.out is not None:
        ensure_writable_file(args.out)
    cfg = read_config(args.config, args.cfg_options)
    model = init_model(cfg, args.checkpoint, args.device)
    if not isinstance(model, GLUS):
        raise ValueError(f'expected a GLUS, got {type(model).__name__}: {args.config}')
    return cfg, model


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


@lru_cache(maxsize=1)
def read_records(path: Path) -> dict[str, list[dict]]:
    """``objects.json`` of MovingShapes, by video; empty if there is none."""
    return json.loads(path.read_text(encoding='utf-8')) if path.is_file() else {}


@dataclass
class StudyVideo:
    """A video of the test set.

    Attributes:
        number: its position.
        info: as its data set parses it.
        reader: its frames (T).
        sample: its expressions, and their masks where there are some.
        dataset: where it comes from, one of a mix.
    """

    number: int
    info: dict
    reader: FrameReader
    sample: RefVOSDataSample
    dataset: BaseRefVOSDataset

    @cached_property
    def tracks(self) -> list[ObjectTrack]:
        """The objects that its expressions refer to, each once.

        Raises:
            ValueError: the data set has no masks.
        """
        masks = self.dataset.masks
        if masks is None:
            raise ValueError(f'expected a data set with masks, got none of '
                             f'{self.info["video_id"]!r} ({self.dataset.ann_file})')
        records = read_records(Path(self.dataset.ann_file).with_name('objects.json')).get(
            self.info['video_id'])
        found: dict[str, ObjectTrack] = {}
        for expression in self.info['expressions']:
            for anno_id, object_id in zip(expression['anno_ids'], expression['object_ids']):
                if anno_id in found:
                    continue
                track = []
                for t in range(len(self.reader)):
                    rles = masks.rles(dict(expression, anno_ids=(anno_id, )), t, self.reader.shape)
                    mask = decode_rle(rles[0]) if rles else None
                    track.append(mask if mask is not None and mask.any() else None)
                found[anno_id] = ObjectTrack(anno_id, object_id, track,
                                             records[int(object_id)] if records else None)
        return list(found.values())


def test_set(cfg: Config) -> BaseRefVOSDataset | ConcatDataset:
    """Build the test set of a config."""
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope') or SCOPE):
        return DATASETS.build(cfg.test_dataloader.dataset)


def videos_of(dataset: BaseRefVOSDataset | ConcatDataset, number: int | None = None
              ) -> Iterator[StudyVideo]:
    """The videos of a test set, the first ones or all."""
    for i in range(min(len(dataset), number or len(dataset))):
        item, child, place = dataset[i], dataset, i
        while isinstance(child, ConcatDataset):
            k, place = child._get_ori_dataset_idx(place)
            child = child.datasets[k]
        yield StudyVideo(i, child.get_data_info(place), item['inputs']['reader'],
                         item['data_samples'], child)
