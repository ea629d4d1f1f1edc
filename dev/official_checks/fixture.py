"""The files of the official fixture, and a GLUS that is made from its checkpoint."""

import functools
import json
import re
import zipfile
from collections import UserDict
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from glus_mm.apis import init_model
from glus_mm.conversion import convert_glus, export_official
from glus_mm.models import GLUS, MemoryBank
from glus_mm.models.data_preprocessor import RefVOSDataPreprocessor
from glus_mm.utils.frames import clip_centres
from glus_mm.utils.image import sam2_image, vision_tower_image
from official_checks.report import FixtureError, Report

CONTEXT = 'context_frames[ctx][num_frames]'
MEMORY = 'memory_frames_queried_in_concat_order[mem_stride][frame_id]'
SIZES = ('160x240', '720x1280', '1100x600')
VISION_TOLERANCE = 1e-5
SAM_TOLERANCE = 1e-4
SHARD_SIZE = '5MB'


class Arrays(UserDict):
    """The arrays of an npz file; one that is missing is a :class:`FixtureError`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with np.load(path) as content:
                super().__init__(content)
        except (OSError, ValueError, zipfile.BadZipFile) as error:
            raise FixtureError(f'expected arrays in {path}: {error}') from error

    def __missing__(self, key: str) -> np.ndarray:
        raise FixtureError(f'expected the array {key!r} in {self.path}')


class OfficialFixture:
    """A folder with inputs and outputs of the official code.

    Args:
        root: the folder; a compact copy will do.
        work_dir: where the converted checkpoint goes.

    Raises:
        FileNotFoundError: there is no such folder.
    """

    def __init__(self, root: str | PathLike, work_dir: str | PathLike) -> None:
        self.root = Path(root)
        self.work_dir = Path(work_dir)
        if not self.root.is_dir():
            raise FileNotFoundError(f'expected a folder with the official fixture: {root}')

    def path(self, name: str) -> Path:
        """A file or folder of the fixture, which must be there."""
        path = self.root / name
        if not path.exists():
            raise FixtureError(f'expected {path}')
        return path

    @functools.lru_cache(maxsize=16)  # noqa: B019 - a fixture lives as long as the program
    def json(self, name: str) -> Any:
        """Content of a JSON file."""
        try:
            return json.loads(self.path(name).read_text(encoding='utf-8'))
        except ValueError as error:
            raise FixtureError(f'expected JSON in {self.root / name}: {error}') from error

    @functools.lru_cache(maxsize=4)  # noqa: B019
    def arrays(self, name: str) -> Arrays:
        """Content of an npz file."""
        return Arrays(self.path(name))

    @functools.cached_property
    def converted(self) -> Path:
        """Folder with the converted checkpoint, made on first use."""
        out, sam2 = self.work_dir / 'converted', sorted(self.root.glob('sam2*.yaml'))
        if len(sam2) != 1:
            raise FixtureError(f'expected one sam2*.yaml in {self.root}, got {len(sam2)}')
        record = self.json('inference/expected.json')
        try:
            convert_glus(
                self.path('checkpoint'), out, clip=str(self.path('clip')),
                sam2=str(sam2[0]), num_context=record['context_frame_num'],
                num_query=record['question_frame_num'], memory_stride=record['mem_stride'])
        except (OSError, ValueError) as error:
            raise FixtureError(f'the checkpoint cannot be converted: {error}') from error
        return out

    def model(self, options: dict | None = None) -> GLUS:
        """Build the model as its users do, in eval mode.

        Args:
            options: ``cfg_options`` of :func:`init_model`.
        """
        # Random numbers are not used, but those that are drawn must not depend on the order.
        torch.manual_seed(0)
        return init_model(self.converted / 'config.py', self.converted / 'model.pth',
                          cfg_options=options)


def check_tables(fixture: OfficialFixture, report: Report) -> None:
    """Context frames and memory frames for many lengths and strides."""
    tables = fixture.json('tables.json')
    for key in (CONTEXT, MEMORY):
        if not tables.get(key):
            raise FixtureError(f'expected {key!r} in {fixture.root / "tables.json"}')
    for num_context, row in tables[CONTEXT].items():
        for num_frames, official in row.items():
            # -1 is the official index of the last frame.
            official = [index % int(num_frames) for index in official]
            report.same('context frames', clip_centres(int(num_frames), int(num_context)),
                        official)
    for stride, row in tables[MEMORY].items():
        bank = MemoryBank(int(stride))
        for frame_idx in sorted(map(int, row)):
            selected = [int(entry) for entry in bank.select(frame_idx)]
            report.same('memory frames', selected, row[str(frame_idx)])
            bank.add(frame_idx, torch.tensor([[float(frame_idx)]]))


def check_preprocessing(fixture: OfficialFixture, report: Report) -> None:
    """Images of both encoders, for generated images of several sizes."""
    arrays = fixture.arrays('preprocess/expected.npz')
    preprocessor = RefVOSDataPreprocessor()
    for size in SIZES:
        image = pattern(*map(int, size.split('x')))
        for encoder, make, tolerance in (
                ('vision tower', lambda i: _vision(preprocessor, i), VISION_TOLERANCE),
                ('SAM-2', lambda i: preprocessor.normalize_sam(sam2_image(i, 1024)),
                 SAM_TOLERANCE)):
            # Every n-th pixel is stored, as <prefix>_s<n>.
            prefix = f'{"sam" if encoder == "SAM-2" else "clip"}_{size}'
            found = [key for key in arrays if re.fullmatch(rf'{prefix}_s\d+', key)]
            if len(found) != 1:
                raise FixtureError(
                    f'expected one array {prefix}_s<step> in {arrays.path}, got {found}')
            key, every = found[0], int(found[0].rsplit('_s', 1)[1])
            report.close(f'image of {encoder}, {size}', make(image)[:, ::every, ::every],
                         arrays[key], tolerance)


def _vision(preprocessor: RefVOSDataPreprocessor, image: np.ndarray) -> torch.Tensor:
    small = torch.from_numpy(vision_tower_image(image, 224).copy()).permute(2, 0, 1)
    return preprocessor.normalize_vision(small)


def pattern(height: int, width: int) -> np.ndarray:
    """The image that the official preprocessing was recorded for, uint8 (H, W, 3)."""
    y, x, c = np.ogrid[:height, :width, :3]
    blocks = (x // 16) ^ (y // 16)
    return ((3 * x + 5 * y + 85 * c + 9 * blocks) % 256).astype(np.uint8)


def check_round_trip(fixture: OfficialFixture, report: Report) -> None:
    """Convert, export in shards of both formats, and compare every tensor."""
    official = read_folder(fixture.path('checkpoint'))
    for suffix in ('bin', 'safetensors'):
        out = fixture.work_dir / f'exported_{suffix}'
        export_official(fixture.converted / 'config.py', fixture.converted / 'model.pth', out,
                        max_shard_size=SHARD_SIZE, safe_serialization=suffix == 'safetensors')
        ours = read_folder(out)
        report.same(f'names of the tensors, .{suffix}', set(ours), set(official))
        for name in sorted(set(ours) & set(official)):
            report.same(f'types of the tensors, .{suffix}', str(ours[name].dtype),
                        str(official[name].dtype))
            report.same(f'values of the tensors, .{suffix}', ours[name], official[name])


def read_folder(folder: Path) -> dict[str, Tensor]:
    """All tensors of all weight files of a folder, read without the code under test."""
    state: dict[str, Tensor] = {}
    for path in sorted(folder.glob('*.bin')):
        state |= torch.load(path, map_location='cpu', weights_only=True)
    for path in sorted(folder.glob('*.safetensors')):
        state |= load_file(path)
    if not state:
        raise FixtureError(f'expected *.bin or *.safetensors in {folder}')
    return state
