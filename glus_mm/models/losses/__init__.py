"""Losses, each usable on its own."""

from glus_mm.models.losses.mask_losses import MaskBCELoss, MaskDiceLoss
from glus_mm.models.losses.token_ce_loss import TokenCELoss

__all__ = ['MaskBCELoss', 'MaskDiceLoss', 'TokenCELoss']
