"""Measures of one predicted mask against one true mask."""

from glus_mm.evaluation.functional.adaptive_boundary_accuracy import adaptive_boundary_accuracy
from glus_mm.evaluation.functional.boundary_accuracy import boundary_accuracy
from glus_mm.evaluation.functional.region_similarity import region_similarity

__all__ = ['adaptive_boundary_accuracy', 'boundary_accuracy', 'region_similarity']
