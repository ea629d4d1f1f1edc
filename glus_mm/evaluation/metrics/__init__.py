"""Metrics for MMEngine's evaluator."""

from glus_mm.evaluation.metrics.frame_iou_metric import FrameIoUMetric
from glus_mm.evaluation.metrics.key_frame_metric import KeyFrameMetric
from glus_mm.evaluation.metrics.ref_vos_metric import RefVOSMetric

__all__ = ['FrameIoUMetric', 'KeyFrameMetric', 'RefVOSMetric']
