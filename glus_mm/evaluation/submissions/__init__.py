"""Masks for the servers of the field: packing them, and checking what was packed."""

from glus_mm.evaluation.submissions.check_submission import SubmissionVideo, check_submission
from glus_mm.evaluation.submissions.formats import SUBMISSION_FORMATS, SubmissionFormat
from glus_mm.evaluation.submissions.write_submission import write_submission

__all__ = ['SUBMISSION_FORMATS', 'SubmissionFormat', 'SubmissionVideo', 'check_submission',
           'write_submission']
