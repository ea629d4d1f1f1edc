"""Predictions as PNG files, as any system writes them."""

from glus_mm.evaluation.predictions.png_file import (
    read_mask_png,
    read_png_size,
    write_label_png,
)
from glus_mm.evaluation.predictions.prediction_tree import FrameFolder, PredictionTree, TreeScan

__all__ = ['FrameFolder', 'PredictionTree', 'TreeScan', 'read_mask_png', 'read_png_size',
           'write_label_png']
