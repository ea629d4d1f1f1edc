"""Cutie in place of GLUS's own propagation (Table 6 of the paper)."""

from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from glus_mm.models.inference import VideoSession
from glus_mm.models.propagators import KeyMaskPropagator
from glus_mm_cutie.cutie_package import load_config, load_network
from glus_mm_cutie.cutie_tracker import CutieTracker
from glus_mm_cutie.registry import MODELS

if TYPE_CHECKING:
    from glus_mm.models import GLUS


@MODELS.register_module()
class CutiePropagator(KeyMaskPropagator):
    """GLUS finds the object on the key frame, Cutie tracks it from there.

    The package ``cutie`` and the weights are loaded when the first video is segmented. They are
    no part of GLUS: not of its ``state_dict``, parameters or checkpoints.

    Args:
        checkpoint: file of the weights, such as ``cutie-base-mega.pth``.
        mem_every: a frame in so many is memorised.
        short_side: larger frames are made smaller for Cutie; -1 for none.
    """

    def __init__(self, checkpoint: str, mem_every: int = 5, short_side: int = 480) -> None:
        self.checkpoint = checkpoint
        self.mem_every = mem_every
        self.short_side = short_side
        self._network: nn.Module | None = None

    def tracker(self, model: 'GLUS', session: VideoSession) -> CutieTracker:
        """See :meth:`KeyMaskPropagator.tracker`.

        Raises:
            ImportError: Cutie is not installed; the message says how to.
            FileNotFoundError: there are no such weights.
        """
        if self._network is None:
            cfg = load_config(self.mem_every, self.short_side)
            if not Path(self.checkpoint).is_file():
                raise FileNotFoundError('expected weights of Cutie in model.test_cfg.propagator.'
                                        f'checkpoint, but there is no file {self.checkpoint}')
            self._network = load_network(cfg, self.checkpoint)
        device = next(model.mask_head.parameters()).device
        return CutieTracker(self._network.to(device), session)
