"""Cutie as a propagator of glus_mm; the package ``cutie`` is imported when it is first needed."""

from glus_mm_cutie.cutie_propagator import CutiePropagator

__all__ = ['CutiePropagator']
