"""MovingShapes: the embedded data set, made by a seeded generator in the MeViS layout."""
from .expressions import KINDS, VARIANT_KINDS, unknown_words
from .scene import VARIANTS
from .video import SPLIT_CODES, MovingShapesVideo, generate_video
from .writer import write_split

__all__ = ['KINDS', 'SPLIT_CODES', 'VARIANTS', 'VARIANT_KINDS', 'MovingShapesVideo',
           'generate_video', 'unknown_words', 'write_split']
