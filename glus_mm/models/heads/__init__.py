"""Mask heads and their memory."""

from glus_mm.models.heads.memory_bank import MemoryBank
from glus_mm.models.heads.memory_head import HeadOutput, MemoryHead, SAM2Features
from glus_mm.models.heads.sam2_memory_head import SAM2MemoryHead
from glus_mm.models.heads.token_update import TokenUpdate
from glus_mm.models.heads.tracker_heads import EdgeTAMHead, Sam3TrackerHead

__all__ = [
    'EdgeTAMHead', 'HeadOutput', 'MemoryBank', 'MemoryHead', 'SAM2Features', 'SAM2MemoryHead',
    'Sam3TrackerHead', 'TokenUpdate'
]
