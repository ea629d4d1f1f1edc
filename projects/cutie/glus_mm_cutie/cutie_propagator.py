"""Cutie in place of GLUS's own propagation (Table 6 of the paper)."""

from dataclasses import dataclass, field
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.initialize import get_gh_backup, restore_gh_from_backup
from omegaconf import DictConfig, open_dict
from torch import Tensor, nn

from glus_mm.models.inference import VideoSession
from glus_mm.models.propagators import KeyMaskPropagator, MaskTracker
from glus_mm_cutie.registry import MODELS

if TYPE_CHECKING:
    from glus_mm.models import GLUS


INSTALL = ('Cutie is not installed. From its repository, https://github.com/hkchengrex/Cutie:\n'
           '    git clone https://github.com/hkchengrex/Cutie && pip install -e Cutie\n'
           'and its weights, cutie-base-mega.pth, from the releases page there.')
EPSILON = 1e-6


def import_cutie(module: str) -> Any:
    """Import ``cutie.<module>``.

    Raises:
        ImportError: the package is not installed; the message says how to.
    """
    try:
        return import_module(f'cutie.{module}')
    except ModuleNotFoundError as error:
        if error.name != 'cutie':
            raise
        raise ImportError(INSTALL) from error


def load_config(mem_every: int, short_side: int) -> DictConfig:
    """Cutie's own ``eval_config``, for videos that belong to none of its data sets.

    Args:
        mem_every: a frame in so many is memorised.
        short_side: larger frames are made smaller; -1 for none.
    """
    import_cutie('model.cutie')
    # The package sam2 occupies Hydra's global state.
    backup = get_gh_backup()
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(files('cutie') / 'config'), version_base='1.3'):
            cfg = compose('eval_config')
    finally:
        restore_gh_from_backup(backup)
    with open_dict(cfg):
        cfg.update(use_long_term=False, mem_every=mem_every, max_internal_size=short_side)
    return cfg


def load_network(cfg: DictConfig, checkpoint: str | Path) -> nn.Module:
    """The network with its weights, in eval mode.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the weights do not fill the network.
    """
    network = import_cutie('model.cutie').CUTIE(cfg).eval().requires_grad_(False)
    state = torch.load(checkpoint, map_location='cpu', weights_only=True)
    missing = sorted(set(network.state_dict()) - set(state))
    if missing:
        raise ValueError(f'expected weights of Cutie, but {checkpoint} lacks {missing[:5]} and '
                         f'{max(len(missing) - 5, 0)} more')
    network.load_weights(state)
    return network


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


@MODELS.register_module()
class CutiePropagator(KeyMaskPropagator):
    """GLUS finds the object on the key frame, Cutie tracks it from there.

    ``GLUS.prepare`` loads the package ``cutie`` and the weights. They are no part of GLUS: not of
    its ``state_dict``, parameters or checkpoints.

    Args:
        checkpoint: file of the weights, such as ``cutie-base-mega.pth``.
        mem_every: a frame in so many is memorised.
        short_side: larger frames are made smaller for Cutie; -1 for none.
    """

    def __init__(self, checkpoint: str, mem_every: int = 5, short_side: int = 480) -> None:
        self.checkpoint = checkpoint
        self.mem_every = mem_every
        self.short_side = short_side

    def load(self, device: torch.device) -> None:
        """See :meth:`BasePropagator.load`.

        Raises:
            ImportError: Cutie is not installed; the message says how to.
            FileNotFoundError: there are no such weights.
        """
        if self.networks:
            return
        cfg = load_config(self.mem_every, self.short_side)
        if not Path(self.checkpoint).is_file():
            raise FileNotFoundError('expected weights of Cutie in model.test_cfg.propagator.'
                                    f'checkpoint, but there is no file {self.checkpoint}')
        self.networks = load_network(cfg, self.checkpoint),

    def tracker(self, model: 'GLUS', session: VideoSession) -> CutieTracker:
        """See :meth:`KeyMaskPropagator.tracker`."""
        return CutieTracker(self.networks[0], session)
