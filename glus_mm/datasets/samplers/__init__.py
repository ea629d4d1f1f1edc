"""Samplers: which item comes next, and with which draw."""

from glus_mm.datasets.samplers.balanced_video_sampler import BalancedVideoSampler
from glus_mm.datasets.samplers.base_video_sampler import BaseVideoSampler
from glus_mm.datasets.samplers.infinite_video_sampler import InfiniteVideoSampler
from glus_mm.datasets.samplers.mixed_video_sampler import MixedVideoSampler

__all__ = [
    'BalancedVideoSampler', 'BaseVideoSampler', 'InfiniteVideoSampler', 'MixedVideoSampler'
]
