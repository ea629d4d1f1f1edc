"""Parts of benchmark_train.py."""

from train_benchmark.model import SIZES, build_model, make_batch
from train_benchmark.step import PHASES, PhaseTimer, TrainStep, Variant

__all__ = ['PHASES', 'PhaseTimer', 'SIZES', 'TrainStep', 'Variant', 'build_model', 'make_batch']
