"""Official checkpoints to ours and back."""

from glus_mm.conversion.convert import convert_glus, convert_lisa

__all__ = ['convert_glus', 'convert_lisa']
