"""Official checkpoints to ours and back."""

from glus_mm.conversion.convert import convert_glus, convert_lisa
from glus_mm.conversion.export import export_official
from glus_mm.conversion.sam2_weights import convert_sam2
from glus_mm.conversion.selector import convert_chat_univi

__all__ = ['convert_chat_univi', 'convert_glus', 'convert_lisa', 'convert_sam2', 'export_official']
