"""Models of glus_mm, in the registry from the first look-up on."""

from glus_mm.utils.deprecation import moved
from glus_mm.utils.light_imports import attach_stub

# Each name is imported where it is first used; __init__.pyi says from where.
_load, __dir__, __all__ = attach_stub(__name__, __file__)
__getattr__ = moved(__name__, 'video_qa', '0.2', ('BaseVideoQA', 'VideoQASelector'), _load)
