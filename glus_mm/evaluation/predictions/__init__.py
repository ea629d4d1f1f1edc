"""Predictions in files, in the forms in which systems write them."""

from glus_mm.evaluation.predictions.npz_files import NPZFiles
from glus_mm.evaluation.predictions.open_predictions import (
    PREDICTION_FORMATS,
    find_format,
    open_predictions,
)
from glus_mm.evaluation.predictions.png_file import read_mask_png, write_label_png
from glus_mm.evaluation.predictions.prediction_tree import (
    ConvertedTree,
    FrameFolder,
    PredictionSource,
    PredictionTree,
    TreeScan,
)
from glus_mm.evaluation.predictions.rle_file import RLEFile

__all__ = ['PREDICTION_FORMATS', 'ConvertedTree', 'FrameFolder', 'NPZFiles', 'PredictionSource',
           'PredictionTree', 'RLEFile', 'TreeScan', 'find_format', 'open_predictions',
           'read_mask_png', 'write_label_png']
