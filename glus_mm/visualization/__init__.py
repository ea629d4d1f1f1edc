"""Drawing masks with their expressions: frames, overlay videos, contact sheets."""

from glus_mm.utils.video_writer import OverlayVideoWriter
from glus_mm.visualization.local_visualizer import ERROR_COLORS, RefVOSLocalVisualizer
from glus_mm.visualization.sheets import SheetFrame, contact_sheet, sample_sheet

__all__ = [
    'ERROR_COLORS', 'OverlayVideoWriter', 'RefVOSLocalVisualizer', 'SheetFrame', 'contact_sheet',
    'sample_sheet'
]
