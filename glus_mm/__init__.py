"""glus_mm: referring video object segmentation with GLUS as an MMEngine plugin."""

from glus_mm.utils.dependencies import check_dependencies, quiet_dependencies
from glus_mm.version import __version__

check_dependencies()
quiet_dependencies()

__all__ = ['__version__']
