"""Drawing masks with their expressions: frames, overlay videos, contact sheets."""

from glus_mm.utils.video_writer import OverlayVideoWriter
from glus_mm.visualization.contact_sheet import contact_sheet
from glus_mm.visualization.local_visualizer import ERROR_COLORS, RefVOSLocalVisualizer
from glus_mm.visualization.sample_sheet import SheetFrame, sample_sheet

__all__ = [
    'ERROR_COLORS', 'OverlayVideoWriter', 'RefVOSLocalVisualizer', 'SheetFrame', 'contact_sheet',
    'sample_sheet'
]
