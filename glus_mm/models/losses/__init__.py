"""Losses, each usable on its own."""

from glus_mm.models.losses.grounding_loss import GroundingLoss
from glus_mm.models.losses.mask_losses import MaskBCELoss, MaskDiceLoss, MaskIoULoss
from glus_mm.models.losses.mean_over_processes import mean_over_processes
from glus_mm.models.losses.motion_loss import MotionLoss
from glus_mm.models.losses.object_contrastive_loss import ObjectContrastiveLoss
from glus_mm.models.losses.token_bank import TokenBank, token_identity
from glus_mm.models.losses.token_losses import FrameScoreLoss, TokenCELoss

__all__ = [
    'FrameScoreLoss', 'GroundingLoss', 'MaskBCELoss', 'MaskDiceLoss', 'MaskIoULoss', 'MotionLoss',
    'ObjectContrastiveLoss', 'TokenBank', 'TokenCELoss', 'mean_over_processes', 'token_identity'
]
