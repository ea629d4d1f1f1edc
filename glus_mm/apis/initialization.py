"""Build a model from a config and fill it from a checkpoint."""

import copy
from os import PathLike
from pathlib import Path

import torch
from mmengine import Config

from glus_mm.apis.config_text import fill_tokenizers
from glus_mm.apis.pretrained import resolve_base, resolve_for
from glus_mm.models.segmentors import GLUS
from glus_mm.models.segmentors.hub_mixin import is_pretrained
from glus_mm.registry import MODELS, SCOPE
from glus_mm.utils.config_input import config_from_file
from glus_mm.utils.config_keys import override_model
from glus_mm.utils.empty_weights import build_empty, load_weights
from glus_mm.utils.hub import is_hub_name
from glus_mm.utils.model_zoo import find_model
from glus_mm.utils.paths import require_file
from glus_mm.utils.resources import find_resource


def init_model(config: str | PathLike | Config,
               checkpoint: str | PathLike | None = None,
               device: str | torch.device = 'cpu',
               cfg_options: dict | None = None) -> GLUS:
    """Make a model ready for inference.

    The caller's default scope stays what it is. With a checkpoint the model is built without
    random weights and filled from the file, each weight once, in the model's type (``model.dtype``
    for what is frozen, else float32). Loading never runs code from the file, and the model is
    independent of it afterwards. A model with LoRA adapters takes weights without them. What a
    checkpoint of a training leaves to the file that the training started from is taken from
    there, see :mod:`glus_mm.utils.base_weights`.

    Args:
        config: path of a config file, which may be one that comes with the package
            (``'configs/glus/...'``); the name of a model of the zoo, such as ``'glus-s'``, see
            :func:`glus_mm.utils.model_zoo.find_model`; a folder that ``GLUS.save_pretrained``
            wrote, or ``org/name`` of one on the hub; or a config, which is not changed.
        checkpoint: path of a checkpoint, a converted folder, or the name of a repository on the
            hub, see :func:`resolve_checkpoint`. None leaves the weights random; with the name of a
            model it takes those of the zoo.
        device: where the model goes; ``'auto'`` is the first of cuda, mps and cpu that is here.
        cfg_options: dotted keys and values that override the config, such as
            ``{'model.test_cfg.window': 2}``.

    Returns:
        The model in eval mode; ``.cfg`` is its config, ``.checkpoint`` the path of its weights.
        It is a GLUS but where the config is that of another model, such as a key-frame selector.

    Raises:
        ConnectionError: the checkpoint is on the hub, which cannot be reached.
        FileNotFoundError: there is no such config or checkpoint, or the file is gone that the
            checkpoint shares weights with.
        KeyError: an option begins with a key that the config does not have, or a part of
            the model has a key that its class does not know.
        TypeError: a part of the model does not know a key of its config.
        ValueError: there is no model of that name, or no weights for it; the config has no model,
            the checkpoint cannot be read or does not fit (the message lists the keys), LoRA
            adapters in it are others than the model's, or the device cannot be used here.

    Examples:
        >>> model = init_model('glus_tiny_moving-shapes')  # config and weights of the package
    """
    device = _usable_device(device)
    if checkpoint is None and isinstance(config, (str, PathLike)) and (
            is_hub_name(config) or is_pretrained(config)):
        return GLUS.from_pretrained(config, device, cfg_options)
    config, checkpoint = _resolve_name(config, checkpoint)
    cfg = _load_config(config, cfg_options or {})
    if checkpoint is not None:
        checkpoint = resolve_for(cfg, checkpoint)
    fill_tokenizers(cfg, checkpoint, cfg.get('load_from'))
    model_cfg = dict(cfg.model)
    model_cfg.setdefault('_scope_', cfg.get('default_scope') or SCOPE)
    if cfg.get('data_preprocessor') is not None:  # where MMEngine's Runner looks for it too
        model_cfg.setdefault('data_preprocessor', cfg.data_preprocessor)
    if checkpoint is None:
        model = MODELS.build(model_cfg)
    else:
        model = build_empty(lambda: MODELS.build(model_cfg))
        base = resolve_base(cfg, checkpoint, cfg.get('load_from'))
        load_weights(model, checkpoint, base, device)
    model.cfg = cfg
    model.checkpoint = None if checkpoint is None else str(checkpoint)
    model.to(device).eval()
    return model.prepare() if isinstance(model, GLUS) else model


def _resolve_name(config: str | PathLike | Config, checkpoint: str | PathLike | None
                  ) -> tuple[str | PathLike | Config, str | PathLike | None]:
    """Replace what comes with the package, a model's name or a path, by its files."""
    if isinstance(checkpoint, (str, PathLike)):
        checkpoint = _keep_kind(checkpoint)
    if isinstance(config, (str, PathLike)):
        config = _keep_kind(config)
    # What looks like a path is one, also where it is wrong: its own message follows.
    if not isinstance(config, str) or config.endswith('.py') or '/' in config \
            or Path(config).exists():
        return config, checkpoint
    entry = find_model(config)
    if checkpoint is None:
        checkpoint = entry.weights
    if checkpoint is None:
        raise ValueError(
            f'expected a model with published weights, got {config!r}, which has none: give '
            f'checkpoint=, or the path of its config for random weights: {entry.config}')
    return entry.config, checkpoint


def _keep_kind(path: str | PathLike) -> str | PathLike:
    """A path with the package's files behind the user's; strings stay strings."""
    found = find_resource(path)
    return found if isinstance(path, PathLike) or found.exists() else path


def _load_config(config: str | PathLike | Config, options: dict) -> Config:
    if isinstance(config, Config):
        cfg, source = copy.deepcopy(config), config.filename or 'the config'
    elif isinstance(config, (str, PathLike)):
        source = require_file(config, 'config')
        cfg = config_from_file(source)
    else:
        raise TypeError(f'expected the path of a config or a mmengine Config, got '
                        f'{type(config).__name__}')
    override_model(cfg, options, str(source))
    if not isinstance(cfg.get('model'), dict) or 'type' not in cfg.model:
        raise ValueError(f'expected a config with model = dict(type=...), got '
                         f'{cfg.get("model")!r}: {source}')
    return cfg


def _usable_device(device: str | torch.device) -> torch.device:
    if device == 'auto':
        device = 'cuda' if torch.cuda.is_available() else (
            'mps' if torch.backends.mps.is_available() else 'cpu')
    try:
        result = torch.device(device)
        torch.empty(0, device=result)
    # Builds without CUDA raise an AssertionError; other back ends a NotImplementedError.
    except (RuntimeError, AssertionError, NotImplementedError, TypeError) as error:
        usable = ['cpu', *(f'cuda:{i}' for i in range(torch.cuda.device_count()))]
        reason = str(error).splitlines()[0].split('. ')[0] if str(error) else type(error).__name__
        raise ValueError(f'expected a device that can be used here ({", ".join(usable)}), got '
                         f'{str(device)!r}: {reason}') from error
    return result

