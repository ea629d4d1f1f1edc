"""Data sets, samplers and transforms."""

from glus_mm.datasets.base_ref_vos_dataset import BaseRefVOSDataset
from glus_mm.datasets.mask_store import MaskStore
from glus_mm.datasets.mevis import MeViSDataset
from glus_mm.datasets.mixed_ref_vos_dataset import MixedRefVOSDataset
from glus_mm.datasets.moving_shapes_dataset import MovingShapesDataset
from glus_mm.datasets.samplers import InfiniteVideoSampler, MixedVideoSampler
from glus_mm.datasets.transforms import (
    BuildConversation,
    LoadRefVOSFrames,
    LoadRefVOSGroundTruth,
    LoadRefVOSMasks,
    OpenFrameReader,
    PackRefVOSInputs,
    ResizeForEncoders,
    SampleContextQueryFrames,
)

__all__ = [
    'BaseRefVOSDataset', 'BuildConversation', 'InfiniteVideoSampler', 'LoadRefVOSFrames',
    'LoadRefVOSGroundTruth', 'LoadRefVOSMasks', 'MaskStore', 'MeViSDataset',
    'MixedRefVOSDataset', 'MixedVideoSampler', 'MovingShapesDataset', 'OpenFrameReader',
    'PackRefVOSInputs', 'ResizeForEncoders', 'SampleContextQueryFrames'
]
