"""Models of glus_mm, in the registry from the first look-up on."""

from glus_mm.utils.light_imports import attach_stub

# Each name is imported where it is first used; __init__.pyi says from where.
__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
