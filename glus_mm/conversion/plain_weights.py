"""The weights of a training, complete, without adapters, and in a file of their own."""

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path

import torch
from accelerate import init_empty_weights
from huggingface_hub.errors import StrictDataclassError
from mmengine import Config
from omegaconf.errors import OmegaConfBaseException
from torch import Tensor, nn

from glus_mm.registry import MODELS, SCOPE
from glus_mm.utils.base_weights import complete_state
from glus_mm.utils.checkpoint import adapt_lora, check_fit, list_keys
from glus_mm.utils.checkpoint_files import atomic_file, read_checkpoint
from glus_mm.utils.precision import is_adapter

# What the libraries raise that build a model's parts.
_ERRORS = (KeyError, OmegaConfBaseException, StrictDataclassError, TypeError,
           ValueError)
# Parts that nothing but training uses.
TRAINING_ONLY = ('loss_motion.', 'loss_grounding.', 'reader.')


def empty_model(cfg: Config, where: str) -> nn.Module:
    """Build a model whose parameters have no data.

    Args:
        cfg: a config with ``model``.
        where: where its values came from, for the message.

    Returns:
        The model; its buffers are real.

    Raises:
        ValueError: a key is not known, or a value cannot be used.
    """
    if not isinstance(cfg.get('model'), dict) or 'type' not in cfg.model:
        raise ValueError(f'expected a config with model = dict(type=...), got '
                         f'{cfg.get("model")!r}: {where}')
    model = dict(cfg.model)
    model.setdefault('_scope_', cfg.get('default_scope') or SCOPE)
    # Buffers with random values are made too; the caller's generator goes on as if they were not.
    with torch.random.fork_rng(devices=[]), init_empty_weights(include_buffers=False):
        try:
            return MODELS.build(model)
        except _ERRORS as error:
            raise ValueError(f'{where}: expected a model, but building it fails with: '
                             f'{error}') from error


def merge_adapters(model: nn.Module, state: Mapping[str, Tensor], source: str
                   ) -> dict[str, Tensor]:
    """Check that a checkpoint fills a model, and put weights and adapters together.

    A merged weight is W + alpha / r * B @ A, computed in float32, in the type of W.

    Args:
        model: the model, with adapters if its config has them; its values do not matter.
        state: weights of a checkpoint, with adapters or, where they were merged before, without.
        source: the checkpoint, for messages.

    Raises:
        ValueError: something is missing, unknown or has another shape; the message lists it.
    """
    has_adapters = any(map(is_adapter, state))
    state = adapt_lora(model, state, source)
    unknown = check_fit(model, state, source)
    if unknown:
        raise ValueError('\n'.join([f'expected only weights that the config has a place for: '
                                    f'{source}', list_keys('unknown', unknown)]))
    merged = {}
    for name, value in state.items():
        layer, base, end = name.partition('.base_layer.')
        if base and end == 'weight' and has_adapters:
            a, b = (state[f'{layer}.lora_{x}.default.weight'].float() for x in 'AB')
            update = (b @ a).mul_(model.get_submodule(layer).scaling['default'])
            value = update.add_(value.float()).to(value.dtype)
        if not is_adapter(name):
            merged[f'{layer}.{end}' if base else name] = value
    return merged


# Names on the command line; 'keep' leaves each weight its own type.
DTYPES = dict(keep=None, fp32=torch.float32, fp16=torch.float16, bf16=torch.bfloat16)


def joined_state(checkpoints: Sequence[str | PathLike], config: Config | None = None,
                 base: str | PathLike | None = None) -> dict[str, Tensor]:
    """The weights of one checkpoint, or of several that hold different parts of a model.

    Weights that only training uses, such as those of losses, are left out.

    Args:
        checkpoints: the files.
        config, base: see :func:`plain_state`, likewise the errors.

    Raises:
        ValueError: two files hold the same weight.
    """
    joined: dict[str, Tensor] = {}
    for checkpoint in checkpoints:
        state = plain_state(checkpoint, config, base)
        twice = sorted(set(state) & set(joined))
        if twice:
            raise ValueError('\n'.join([
                f'expected checkpoints of different parts, but {checkpoint} holds weights that '
                f'another one has', list_keys('in both', twice)]))
        joined.update({name: value for name, value in state.items()
                       if not name.startswith(TRAINING_ONLY)})
    return joined


def plain_state(checkpoint: str | PathLike, config: Config | None = None,
                base: str | PathLike | None = None) -> dict[str, Tensor]:
    """The weights of a checkpoint, as a model without adapters has them.

    Args:
        checkpoint: a file, that of a training too. What it shares with the file that the training
            started from is taken from there.
        config: the config of the training, with its tokenizer filled in; needed where there are
            LoRA adapters, which are merged as :func:`merge_adapters` says.
        base: where the file that the training started from is, if not where it was.

    Returns:
        Names and tensors, mapped from the files where they are not merged.

    Raises:
        FileNotFoundError: the file that the training started from is gone.
        ValueError: there are adapters and no config, the checkpoint does not fit it, or the
            checkpoint cannot be read.
    """
    state = complete_state(read_checkpoint(checkpoint), checkpoint, base)
    adapters = [name for name in state if is_adapter(name)]
    if config is not None:
        model = empty_model(config, str(config.filename or 'the config'))
        return merge_adapters(model, state, str(checkpoint))
    if adapters:
        raise ValueError('\n'.join([
            f'expected weights without LoRA adapters, got some whose scale only the config of the '
            f'training tells: {checkpoint}; give it with --config CONFIG', list_keys('adapters',
                                                                                     adapters)]))
    return state


def write_weights(state: Mapping[str, Tensor], target: str | PathLike,
                  dtype: torch.dtype | None) -> int:
    """Write weights, and nothing else, as a checkpoint.

    Args:
        state: names and tensors.
        target: the file; it appears whole or not at all.
        dtype: what floating-point tensors are cast to; None leaves them as they are.

    Returns:
        The size of the file in bytes.

    Raises:
        OSError: the file cannot be written.
        ValueError: a value is not finite, or becomes so in ``dtype``.
    """
    result = {}
    for name, tensor in state.items():
        cast = tensor.to(dtype or tensor.dtype) if tensor.is_floating_point() else tensor
        if not torch.isfinite(cast.float()).all():
            raise ValueError(f'expected finite weights, but {name} is not in {cast.dtype}')
        # What is a part of a larger storage would bring all of that along.
        result[name] = cast.clone() if cast.untyped_storage().nbytes() != cast.nbytes else cast
    with atomic_file(target) as part:
        torch.save(dict(state_dict=result), part)
    return Path(target).stat().st_size
