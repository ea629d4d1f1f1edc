"""What needs no model: which frames are used, and what becomes of them before an encoder."""

import re

import numpy as np
import torch

from glus_mm.models import MemoryBank
from glus_mm.models.data_preprocessor import RefVOSDataPreprocessor
from glus_mm.utils.frames import clip_centres
from glus_mm.utils.image import sam2_image, vision_tower_image
from official_checks.fixture import OfficialFixture
from official_checks.report import FixtureError, Report

CONTEXT = 'context_frames[ctx][num_frames]'
MEMORY = 'memory_frames_queried_in_concat_order[mem_stride][frame_id]'
SIZES = ('160x240', '720x1280', '1100x600')
VISION_TOLERANCE = 1e-5
SAM_TOLERANCE = 1e-4


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
            key = _stored(arrays, f'{"sam" if encoder == "SAM-2" else "clip"}_{size}')
            every = int(key.rsplit('_s', 1)[1])
            report.close(f'image of {encoder}, {size}', make(image)[:, ::every, ::every],
                         arrays[key], tolerance)


def _vision(preprocessor: RefVOSDataPreprocessor, image: np.ndarray) -> torch.Tensor:
    small = torch.from_numpy(vision_tower_image(image, 224).copy()).permute(2, 0, 1)
    return preprocessor.normalize_vision(small)


def _stored(arrays, prefix: str) -> str:
    """The key of an array that holds every n-th pixel, ``<prefix>_s<n>``."""
    found = [key for key in arrays if re.fullmatch(rf'{prefix}_s\d+', key)]
    if len(found) != 1:
        raise FixtureError(f'expected one array {prefix}_s<step> in {arrays.path}, got {found}')
    return found[0]


def pattern(height: int, width: int) -> np.ndarray:
    """The image that the official preprocessing was recorded for, uint8 (H, W, 3)."""
    y, x, c = np.ogrid[:height, :width, :3]
    blocks = (x // 16) ^ (y // 16)
    return ((3 * x + 5 * y + 85 * c + 9 * blocks) % 256).astype(np.uint8)
