"""Data sets, samplers and transforms."""

from glus_mm.datasets.base_ref_vos_dataset import BaseRefVOSDataset
from glus_mm.datasets.conversation_dataset import ConversationDataset
from glus_mm.datasets.groundmore import GroundMoReDataset
from glus_mm.datasets.image_datasets import (
    BaseImageDataset,
    COCOClassDataset,
    ReasonSegDataset,
    RefCOCODataset,
)
from glus_mm.datasets.mask_sources import (
    BinaryMaskStore,
    COCOMasks,
    MaskSource,
    MaskStore,
    PaletteMaskStore,
    WindowedMaskStore,
)
from glus_mm.datasets.mevis import (
    LongRVOSDataset,
    MeViSDataset,
    MeViSv2Dataset,
    MovingShapesDataset,
    RefSAVDataset,
    ReVOSDataset,
)
from glus_mm.datasets.mixed_ref_vos_dataset import MixedRefVOSDataset
from glus_mm.datasets.mose import MOSEDataset
from glus_mm.datasets.reason_vos import ReasonVOSDataset
from glus_mm.datasets.ref_davis import RefDAVISDataset
from glus_mm.datasets.ref_youtube_vos import LVVISDataset, RefYouTubeVOSDataset
from glus_mm.datasets.samplers import (
    BalancedVideoSampler,
    InfiniteVideoSampler,
    MixedVideoSampler,
)
from glus_mm.datasets.transforms import (
    BuildConversation,
    BuildTalk,
    LoadKeyMasks,
    LoadRefVOSFrames,
    LoadRefVOSGroundTruth,
    LoadRefVOSMasks,
    OpenFrameReader,
    PackRefVOSInputs,
    ProbeVideo,
    ResizeForEncoders,
    SampleContextQueryFrames,
)
from glus_mm.datasets.video_list import VideoListDataset

__all__ = [
    'BalancedVideoSampler', 'BaseImageDataset', 'BaseRefVOSDataset', 'BinaryMaskStore',
    'BuildConversation', 'BuildTalk', 'COCOClassDataset', 'COCOMasks', 'ConversationDataset',
    'GroundMoReDataset', 'InfiniteVideoSampler', 'LoadKeyMasks', 'LoadRefVOSFrames',
    'LoadRefVOSGroundTruth', 'LoadRefVOSMasks', 'LongRVOSDataset', 'LVVISDataset', 'MaskSource',
    'MaskStore', 'MeViSDataset', 'MeViSv2Dataset', 'MixedRefVOSDataset', 'MixedVideoSampler',
    'MOSEDataset', 'MovingShapesDataset', 'OpenFrameReader', 'PackRefVOSInputs',
    'PaletteMaskStore', 'ProbeVideo', 'ReasonSegDataset', 'ReasonVOSDataset', 'RefCOCODataset',
    'RefDAVISDataset', 'RefSAVDataset', 'RefYouTubeVOSDataset', 'ResizeForEncoders',
    'ReVOSDataset', 'SampleContextQueryFrames', 'VideoListDataset', 'WindowedMaskStore'
]
