"""All that touches the package ``cutie``: its import, its config, its weights."""

from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.initialize import get_gh_backup, restore_gh_from_backup
from omegaconf import DictConfig, open_dict
from torch import nn

INSTALL = ('Cutie is not installed. From its repository, https://github.com/hkchengrex/Cutie:\n'
           '    git clone https://github.com/hkchengrex/Cutie && pip install -e Cutie\n'
           'and its weights, cutie-base-mega.pth, from the releases page there.')


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
