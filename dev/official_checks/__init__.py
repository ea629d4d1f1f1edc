"""Comparisons of this package with numbers that the official GLUS code computed."""

import functools

from official_checks.fixture import (
    OfficialFixture,
    check_preprocessing,
    check_round_trip,
    check_tables,
)
from official_checks.inference import VARIANTS, check_variant
from official_checks.report import FixtureError, Report
from official_checks.training import check_lora, check_step, check_units, check_without_memory

CHECKS = {
    'tables': check_tables,
    'preprocess': check_preprocessing,
    **{f'inference/expected{variant}': functools.partial(check_variant, variant=variant)
       for variant in VARIANTS},
    'train/batch': check_step,
    'train/not_use_mem_bank': check_without_memory,
    'train/lora': check_lora,
    'train/contrastive_units': check_units,
    'round_trip': check_round_trip,
}
"""Parts of the check: ``check(fixture, report)`` by name."""

__all__ = ['CHECKS', 'FixtureError', 'OfficialFixture', 'Report']
