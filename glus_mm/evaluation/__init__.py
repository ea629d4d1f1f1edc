"""Measures and metrics."""

from glus_mm.evaluation.functional import boundary_accuracy, region_similarity
from glus_mm.evaluation.metrics import FrameIoUMetric, KeyFrameMetric, RefVOSMetric

__all__ = ['FrameIoUMetric', 'KeyFrameMetric', 'RefVOSMetric', 'boundary_accuracy',
           'region_similarity']
