"""Parts of benchmark_train.py."""

from train_benchmark.model import (
    PHASES,
    SIZES,
    PhaseTimer,
    TrainStep,
    Variant,
    build_model,
    make_batch,
)

__all__ = ['PHASES', 'PhaseTimer', 'SIZES', 'TrainStep', 'Variant', 'build_model', 'make_batch']
