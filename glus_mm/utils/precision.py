"""Which parameter has which floating type, and the casts where two types meet.

The rule of GLUS: what is trained is float32, what is frozen has the type that the config asks for,
and buffers stay as they are built. Modules cast at their borders, so that neither training nor
inference needs autocast, and both take the same path.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from glus_mm.utils.checked import checked

DTYPES = {'float32': torch.float32, 'bfloat16': torch.bfloat16, 'float16': torch.float16}


def parse_dtype(name: str, where: str) -> torch.dtype:
    """The type that a config names.

    Args:
        name: a key of :data:`DTYPES`.
        where: the config path, for the message.

    Raises:
        ValueError: there is no such type.
    """
    checked(tuple(DTYPES), **{where: name})
    return DTYPES[name]


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Build modules whose parameters have ``dtype`` from the start.

    A large model is then never held in float32. Constants that need float32 must name it where
    they are made, which those of transformers do.
    """
    previous = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(previous)


def is_adapter(name: str) -> bool:
    """Whether a parameter or key belongs to a LoRA adapter, by the names that peft gives."""
    return any(part.startswith('lora_') for part in name.split('.'))


def dtype_of(module: nn.Module) -> torch.dtype:
    """Floating type in which a module computes: that of its parameters.

    Adapters do not count: they cast their input and give back what the layer below them does.

    Raises:
        ValueError: no parameter is of a floating type.
    """
    for name, parameter in module.named_parameters():
        if parameter.is_floating_point() and not is_adapter(name):
            return parameter.dtype
    raise ValueError(f'expected a module with floating-point parameters, got {module}')


def run_in_own_type(module: nn.Module, tensor: Tensor) -> Tensor:
    """Run a module on a tensor, any shape, which may have another floating type than its own."""
    return module(tensor.to(dtype_of(module)))


def at_least_float32(tensor: Tensor) -> Tensor:
    """Lift half precision to float32; float32 and float64 are given back as they are.

    Args:
        tensor: any shape.
    """
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def set_precision(module: nn.Module, dtype: torch.dtype, parts: Iterable[nn.Module] = ()) -> None:
    """Give trained parameters float32 and frozen ones ``dtype``; buffers are left alone.

    Args:
        module: the module to change, whose ``requires_grad`` flags are final.
        dtype: type of the frozen parameters.
        parts: modules inside it that compute in one type each. Where a part of one is trained,
            adapters aside, all of it is float32: its operations cannot mix types.
    """
    lifted = set()
    for part in parts:
        if any(p.requires_grad and not is_adapter(name) for name, p in part.named_parameters()):
            lifted.update(map(id, part.parameters()))
    for parameter in module.parameters():
        if parameter.is_floating_point():
            trained = parameter.requires_grad or id(parameter) in lifted
            parameter.data = parameter.data.to(torch.float32 if trained else dtype)
