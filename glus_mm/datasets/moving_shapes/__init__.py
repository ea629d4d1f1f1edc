"""MovingShapes: the embedded data set, made by a seeded generator in the MeViS layout."""
from .expressions import KINDS
from .video import SPLIT_CODES, MovingShapesVideo, generate_video
from .writer import write_split

__all__ = ['KINDS', 'SPLIT_CODES', 'MovingShapesVideo', 'generate_video', 'write_split']
