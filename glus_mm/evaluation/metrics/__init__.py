"""Metrics for MMEngine's evaluator."""

from glus_mm.evaluation.metrics.key_frame_metric import FrameIoUMetric, KeyFrameMetric
from glus_mm.evaluation.metrics.ref_vos_metric import RefVOSMetric

__all__ = ['FrameIoUMetric', 'KeyFrameMetric', 'RefVOSMetric']
