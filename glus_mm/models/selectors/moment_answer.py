"""The place of video_qa.moment_answer up to version 0.1."""

from glus_mm.utils.deprecation import moved

__getattr__ = moved('glus_mm.models.selectors.moment_answer', 'video_qa', '0.2')
