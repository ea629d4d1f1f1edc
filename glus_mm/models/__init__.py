"""Models of glus_mm, in the registry from the first look-up on."""

import lazy_loader

# Each name is imported where it is first used; __init__.pyi says from where.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
