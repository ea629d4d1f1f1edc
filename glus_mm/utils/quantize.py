"""Linear layers of the LLM in 8 or 4 bits, through bitsandbytes."""

import importlib.util
import logging
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from glus_mm.utils.precision import is_adapter

QUANT_TYPES = ('nf4', 'fp4')
LLM_BITS = (4, 8, 16)
"""What ``model.test_cfg.llm_bits`` may be; with 16 the layers stay as they are."""
OUTLIER = 6.0
"""Inputs beyond this are not rounded to 8 bits (LLM.int8, section 3.2)."""


def check_bitsandbytes(user: str) -> None:
    """Check that bitsandbytes is installed.

    Raises:
        ModuleNotFoundError: it is not; the message gives the command.
    """
    if importlib.util.find_spec('bitsandbytes') is None:
        raise ModuleNotFoundError(f'{user} needs bitsandbytes: pip install "glus_mm[quant]"')


def quantize_linear(layer: nn.Linear, bits: int = 4, quant_type: str = 'nf4',
                    double_quant: bool = True) -> nn.Module:
    """A linear layer with the weights of another in fewer bits, on the same device.

    Args:
        layer: what is replaced; its own weight is emptied.
        bits: 4 (as QLoRA) or 8 (as LLM.int8).
        quant_type: ``'nf4'`` or ``'fp4'``, of 4 bits.
        double_quant: quantize the scales of 4 bits too.

    Returns:
        A ``bitsandbytes.nn.Linear4bit`` or ``Linear8bitLt`` that computes in the type of
        ``layer`` and whose weight cannot be trained.
    """
    # Not at the top: importing it takes time and says on a CPU what it lacks.
    from bitsandbytes.nn import Int8Params, Linear4bit, Linear8bitLt, Params4bit

    weight, has_bias = layer.weight.data, layer.bias is not None
    if bits == 4:
        new = Linear4bit(
            layer.in_features, layer.out_features, has_bias, compute_dtype=weight.dtype,
            compress_statistics=double_quant, quant_type=quant_type, device='meta')
        new.weight = Params4bit(
            weight, requires_grad=False, quant_type=quant_type, compress_statistics=double_quant,
            module=new)
    else:
        # It says of every call that it computes in 16 bits what it does not compute in 8.
        logging.getLogger('bitsandbytes.autograd._functions').setLevel(logging.ERROR)
        new = Linear8bitLt(layer.in_features, layer.out_features, has_bias,
                           has_fp16_weights=False, threshold=OUTLIER, device='meta')
        # It is quantized on its way from the host to its device, and only there.
        new.weight = Int8Params(weight.cpu(), requires_grad=False)
    new.bias = layer.bias
    # An optimizer may know the old parameter still, although it never changes it.
    layer.weight.data = weight.new_empty(0)
    # Moving it to its device is what quantizes it.
    return new.to(weight.device).train(layer.training)


def quantize_frozen(model: nn.Module, quant_type: str = 'nf4', double_quant: bool = True
                    ) -> dict[str, torch.dtype]:
    """Hold the frozen linear layers of the LLM in 4 bits, for training.

    Args:
        model: with ``mllm.llm.layers``.
        quant_type, double_quant: see :func:`quantize_linear`.

    Returns:
        Names of the layers that were replaced, and the types that their weights had.

    Raises:
        ValueError: no layer of the LLM is frozen.
    """
    prefix = 'mllm.llm.layers.'
    frozen = {prefix + name: module.weight.dtype
              for name, module in model.mllm.llm.layers.named_modules()
              if type(module) is nn.Linear and not module.weight.requires_grad}
    if not frozen:
        raise ValueError(f'expected frozen linear layers in {prefix}* to quantize, got none: '
                         'train LoRA adapters (model.mllm.lora)')
    _replace(model, frozen, 4, quant_type, double_quant)
    return frozen


def check_llm_bits(model: nn.Module, bits: int) -> None:
    """Check that :func:`quantize_llm` can do what it is asked for.

    Args:
        model: with ``mllm.llm``, whose ``requires_grad`` flags are final.
        bits: 4 or 8.

    Raises:
        ModuleNotFoundError: bitsandbytes is not installed.
        ValueError: a part of the LLM is to be trained.
    """
    where = f'model.test_cfg.llm_bits={bits}'
    # Also where only adapters are trained: a validation would change what they are trained on.
    trained = [name for name, p in model.mllm.llm.named_parameters() if p.requires_grad]
    if trained:
        raise ValueError(f'{where} is for inference only: expected model.mllm.trainable=[], got '
                         f'{len(trained)} parameters of the LLM that are trained, such as '
                         f'mllm.llm.{trained[0]}')
    check_bitsandbytes(where)


def quantize_llm(model: nn.Module, bits: int) -> None:
    """Hold the linear layers of the LLM in fewer bits, for inference.

    Embeddings, head and adapters stay as they are. Does nothing to a model whose layers have been
    replaced before.

    Args:
        model: with ``mllm.llm.layers``.
        bits: 4 or 8.

    Raises:
        ModuleNotFoundError: bitsandbytes is not installed.
        ValueError: a part of the LLM is to be trained.
    """
    layers = [f'mllm.llm.layers.{name}' for name, module in model.mllm.llm.layers.named_modules()
              if type(module) is nn.Linear and not is_adapter(name)]
    if layers:
        check_llm_bits(model, bits)
        _replace(model, layers, bits)


def _replace(model: nn.Module, names: Iterable[str], bits: int, quant_type: str = 'nf4',
             double_quant: bool = True) -> None:
    for name in names:
        parent, _, child = name.rpartition('.')
        setattr(model.get_submodule(parent), child, quantize_linear(
            model.get_submodule(name), bits, quant_type, double_quant))
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def dequantized(layer: nn.Module) -> Tensor:
    """The weights (out, in) that a ``Linear4bit`` stands for."""
    from bitsandbytes.functional import dequantize_4bit

    return dequantize_4bit(layer.weight.data, layer.weight.quant_state)
