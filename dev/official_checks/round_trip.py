"""Weights that go from the official layout to ours and back."""

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from glus_mm.conversion import export_official
from official_checks.fixture import OfficialFixture
from official_checks.report import FixtureError, Report

SHARD_SIZE = '5MB'


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
