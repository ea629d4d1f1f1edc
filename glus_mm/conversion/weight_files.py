"""The old place of :mod:`glus_mm.utils.weight_files`."""

from glus_mm.utils.deprecation import moved

__getattr__ = moved('glus_mm.conversion.weight_files', 'glus_mm.utils.weight_files', '0.2')
