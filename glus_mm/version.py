"""The version of glus_mm, the one place that states it."""

__version__ = '0.1.0'
