"""glus_mm: referring video object segmentation with GLUS as an MMEngine plugin."""

from glus_mm.utils.dependencies import check_dependencies, quiet_dependencies
from glus_mm.utils.light_imports import defer_optional_imports
from glus_mm.version import __version__

check_dependencies()
quiet_dependencies()
defer_optional_imports()

__all__ = ['__version__']
