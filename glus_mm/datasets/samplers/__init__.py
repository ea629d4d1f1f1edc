"""Samplers: which item comes next, and with which draw."""

from glus_mm.datasets.samplers.infinite_video_sampler import InfiniteVideoSampler

__all__ = ['InfiniteVideoSampler']
