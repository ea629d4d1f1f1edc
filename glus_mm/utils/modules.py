"""Small operations on modules: which parameters are trained."""

from collections.abc import Sequence
from fnmatch import fnmatchcase

from mmengine.model import is_model_wrapper
from torch import nn

from glus_mm.utils.spelling import nearest


def set_trainable(module: nn.Module, patterns: Sequence[str] | None) -> None:
    """Freeze every parameter whose name matches none of the patterns.

    Args:
        module: the module to change.
        patterns: shell-style patterns on parameter names relative to ``module``, such as
            ``'sam2.sam_mask_decoder.*'``; None leaves everything as it is, an empty list
            freezes all.

    Raises:
        ValueError: a pattern matches no parameter, which is most often a typo.
    """
    if patterns is None:
        return
    names = [name for name, _ in module.named_parameters()]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise ValueError(
                f'trainable: the pattern {pattern!r} matches no parameter of '
                f'{type(module).__name__}; its parameters begin with '
                f'{sorted({name.split(".")[0] for name in names})}')
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(any(fnmatchcase(name, pattern) for pattern in patterns))


def unwrapped(model: nn.Module) -> nn.Module:
    """The model inside of MMEngine's wrapper for several processes, or itself."""
    return model.module if is_model_wrapper(model) else model


def is_trained(*modules: nn.Module) -> bool:
    """Whether any parameter of the modules asks for a gradient."""
    return any(p.requires_grad for module in modules for p in module.parameters())


def check_keys(values: dict, known: Sequence[str], where: str) -> dict:
    """Return ``values`` if all of its keys are known, else raise a ``TypeError`` that names them.

    Args:
        values: a nested part of a config.
        known: the keys that are understood.
        where: the config path of ``values``, for the message.
    """
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise TypeError(f'{where} got unexpected keys {unknown}; the nearest to {unknown[0]!r} is '
                        f'{nearest(unknown[0], known)!r} of {sorted(known)}')
    return values
