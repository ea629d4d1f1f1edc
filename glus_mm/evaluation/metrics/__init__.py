"""Metrics for MMEngine's evaluator."""

from glus_mm.evaluation.metrics.ref_vos_metric import RefVOSMetric

__all__ = ['RefVOSMetric']
