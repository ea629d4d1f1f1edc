"""Cutie at work on one video."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from glus_mm.models.inference import VideoSession
from glus_mm.models.propagators import MaskTracker
from glus_mm_cutie.cutie_package import import_cutie

EPSILON = 1e-6


@dataclass
class CutieState:
    """Tracks with the same key frame.

    Attributes:
        key: the key frame.
        masks: bool (n, H, W) on it.
        cores: (n) of Cutie, all in the same direction.
        features: what they share of the current frame.
        reverse: the direction.
    """

    key: int
    masks: Tensor
    cores: list[Any] = field(default_factory=list)
    features: Any = None
    reverse: bool = False


class CutieTracker(MaskTracker):
    """One ``InferenceCore`` for each track: Cutie's objects exclude one another, those here do not.

    Cutie's working memory is bounded: the key frame and 4 others.

    Args:
        network: Cutie, on its device.
        session: state of the video.
    """

    def __init__(self, network: nn.Module, session: VideoSession) -> None:
        self.network = network
        self.session = session

    def start(self, frame_idx: int, masks: Tensor) -> CutieState:
        """See :meth:`MaskTracker.start`."""
        state = CutieState(frame_idx, masks)
        self._memorize(state)
        return state

    def track(self, frame_idx: int, state: CutieState, reverse: bool) -> tuple[Tensor, Tensor]:
        """See :meth:`MaskTracker.track`; a score is the mean probability on the mask."""
        if reverse and not state.reverse:
            state.reverse = True
            self._memorize(state)  # each direction starts from the key frame alone
        prob = self._step(frame_idx, state)
        mask = prob > 0.5
        scores = (prob * mask).flatten(1).sum(1) / mask.flatten(1).sum(1).clamp(min=1)
        return prob.clamp(EPSILON, 1 - EPSILON).logit(), scores

    def _memorize(self, state: CutieState) -> None:
        core = import_cutie('inference.inference_core').InferenceCore
        store = import_cutie('inference.image_feature_store').ImageFeatureStore
        state.features = store(self.network, no_warning=True)
        state.cores = [core(self.network, self.network.cfg, image_feature_store=state.features)
                       for _ in state.masks]
        self._step(state.key, state, state.masks)

    @torch.no_grad()
    def _step(self, frame_idx: int, state: CutieState, masks: Tensor | None = None) -> Tensor:
        """Probabilities (n, H, W) of the next frame; the image is encoded once for all tracks."""
        device = next(self.network.parameters()).device
        image = torch.from_numpy(self.session.frame(frame_idx).copy())
        image = image.permute(2, 0, 1).to(device).float() / 255
        given = [{}] * len(state.cores)
        if masks is not None:
            given = [dict(mask=mask[None].to(device).float(), objects=[1], idx_mask=False)
                     for mask in masks]
        probs = [core.step(image, **mask, delete_buffer=False)[1]
                 for core, mask in zip(state.cores, given)]
        state.features.delete(state.cores[0].curr_ti)
        return torch.stack(probs)
