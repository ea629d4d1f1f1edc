"""Evaluation of masks in files against an annotation."""

from glus_mm.apis.mask_evaluation.annotated_expressions import (
    AnnotatedExpressions,
    open_expressions,
    open_submission_videos,
)
from glus_mm.apis.mask_evaluation.compare_masks import MaskComparison, compare_masks
from glus_mm.apis.mask_evaluation.evaluate_masks import MaskEvaluation, evaluate_masks
from glus_mm.apis.mask_evaluation.expression_attributes import expression_attributes
from glus_mm.apis.mask_evaluation.probes import score_probes, write_probes

__all__ = ['AnnotatedExpressions', 'MaskComparison', 'MaskEvaluation', 'compare_masks',
           'evaluate_masks', 'expression_attributes', 'open_expressions', 'open_submission_videos',
           'score_probes', 'write_probes']
