"""Mask heads and their memory."""

from glus_mm.models.heads.memory_bank import MemoryBank
from glus_mm.models.heads.sam2_memory_head import HeadOutput, SAM2Features, SAM2MemoryHead
from glus_mm.models.heads.token_update import TokenUpdate

__all__ = ['HeadOutput', 'MemoryBank', 'SAM2Features', 'SAM2MemoryHead', 'TokenUpdate']
