"""An example of a package of one's own that builds on glus_mm through its registries only."""

from example_project.focal_mask_loss import FocalMaskLoss
from example_project.jitter_brightness import JitterBrightness

__all__ = ['FocalMaskLoss', 'JitterBrightness']
