"""Measures and metrics."""

from glus_mm.evaluation.functional import boundary_accuracy, region_similarity
from glus_mm.evaluation.metrics import RefVOSMetric

__all__ = ['RefVOSMetric', 'boundary_accuracy', 'region_similarity']
