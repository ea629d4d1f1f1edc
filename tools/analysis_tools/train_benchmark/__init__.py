"""Parts of benchmark_train.py."""

from train_benchmark.model import PHASES, SIZES, TrainStep, Variant, build_model, make_batch

__all__ = ['PHASES', 'SIZES', 'TrainStep', 'Variant', 'build_model', 'make_batch']
