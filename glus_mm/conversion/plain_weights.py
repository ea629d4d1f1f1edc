"""The weights of a training, complete, without adapters, and in a file of their own."""

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path

import torch
from mmengine import Config
from torch import Tensor

from glus_mm.conversion.adapters import merge_adapters
from glus_mm.conversion.empty_model import empty_model
from glus_mm.utils.base_weights import complete_state
from glus_mm.utils.checkpoint import list_keys
from glus_mm.utils.checkpoint_files import atomic_file, read_checkpoint
from glus_mm.utils.precision import is_adapter

# Names on the command line; 'keep' leaves each weight its own type.
DTYPES = dict(keep=None, fp32=torch.float32, fp16=torch.float16, bf16=torch.bfloat16)

# Parts that nothing but training uses.
TRAINING_ONLY = ('loss_motion.', 'loss_grounding.', 'reader.')


def joined_state(checkpoints: Sequence[str | PathLike], config: Config | None = None,
                 base: str | PathLike | None = None) -> dict[str, Tensor]:
    """The weights of one checkpoint, or of several that hold different parts of a model.

    Weights that only training uses, such as those of losses, are left out.

    Args:
        checkpoints: the files.
        config: see :func:`plain_state`, likewise the errors.
        base: likewise.

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
