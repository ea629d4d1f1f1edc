"""The pipeline from a video's annotation to the inputs of the model."""

from glus_mm.datasets.transforms.formatting import PackRefVOSInputs, ResizeForEncoders
from glus_mm.datasets.transforms.frame_sampling import ProbeVideo, SampleContextQueryFrames
from glus_mm.datasets.transforms.loading import (
    LoadFrameScores,
    LoadKeyMasks,
    LoadObjects,
    LoadRefVOSFrames,
    LoadRefVOSGroundTruth,
    LoadRefVOSMasks,
    OpenFrameReader,
)
from glus_mm.datasets.transforms.talk import BuildConversation, BuildTalk

__all__ = [
    'BuildConversation', 'BuildTalk', 'LoadFrameScores', 'LoadKeyMasks', 'LoadObjects',
    'LoadRefVOSFrames', 'LoadRefVOSGroundTruth', 'LoadRefVOSMasks', 'OpenFrameReader',
    'PackRefVOSInputs', 'ProbeVideo', 'ResizeForEncoders', 'SampleContextQueryFrames'
]
