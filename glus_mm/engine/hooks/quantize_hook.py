"""Hold the frozen linear layers of the LLM in 4 bits while training, for small accelerators."""

import importlib.util
import logging

import torch
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import Tensor, nn

from glus_mm.registry import HOOKS

QUANT_TYPES = ('nf4', 'fp4')


@HOOKS.register_module()
class QuantizeHook(Hook):
    """4-bit base weights below LoRA adapters (QLoRA), through bitsandbytes.

    After the checkpoint is loaded, and before the first step, every frozen ``nn.Linear`` in
    ``mllm.llm.layers`` becomes a ``Linear4bit``. All else stays as it is. What is saved are plain
    checkpoints of the usual names and shapes, with the weights that the 4 bits stand for: those
    that the adapters were trained with. They are as large as any other, as these weights are not
    those of the base any more. A run that resumes quantizes them again, which may round a few of
    them differently.

    The model is on its device before, in its own types, so that this much memory is needed once.
    Not for DeepSpeed.

    Args:
        quant_type: ``'nf4'`` or ``'fp4'``.
        double_quant: quantize the scales too.

    Raises:
        ValueError: another ``quant_type``; when training starts, there is nothing to quantize.
        ModuleNotFoundError: bitsandbytes is not installed.
    """

    def __init__(self, quant_type: str = 'nf4', double_quant: bool = True) -> None:
        if quant_type not in QUANT_TYPES:
            raise ValueError(f'quant_type must be one of {QUANT_TYPES}, got {quant_type!r}')
        if importlib.util.find_spec('bitsandbytes') is None:
            raise ModuleNotFoundError(
                'QuantizeHook needs bitsandbytes: pip install "glus_mm[quant]"')
        self.quant_type = quant_type
        self.double_quant = double_quant
        self._types: dict[str, torch.dtype] = {}

    def before_train(self, runner: Runner) -> None:
        """Replace the layers.

        Args:
            runner: the runner, which has loaded its checkpoint.

        Raises:
            ValueError: no layer of the LLM is frozen.
        """
        model = _unwrapped(runner)
        prefix = 'mllm.llm.layers.'
        frozen = [(name, module) for name, module in model.named_modules()
                  if name.startswith(prefix) and type(module) is nn.Linear
                  and not module.weight.requires_grad]
        if not frozen:
            raise ValueError(f'expected frozen linear layers in {prefix}* to quantize, got none: '
                             'train LoRA adapters (model.mllm.lora)')
        for name, module in frozen:
            parent, _, child = name.rpartition('.')
            setattr(model.get_submodule(parent), child, self._quantized(module))
            self._types[name] = module.weight.dtype
            # The optimizer knows the old parameter still, although it never changes it.
            module.weight.data = module.weight.new_empty(0)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        print_log(f'{len(frozen)} frozen linear layers of the LLM are in 4 bits '
                  f'({self.quant_type})', 'current', logging.INFO)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Put in weights in place of their codes.

        Args:
            runner: the runner.
            checkpoint: what is about to be saved; changed in place.
        """
        state = checkpoint.get('state_dict')
        if state is None or not self._types:
            return
        model = _unwrapped(runner)
        for name, dtype in self._types.items():
            for key in [key for key in state if key.startswith(f'{name}.weight')]:
                del state[key]
            state[f'{name}.weight'] = dequantized(model.get_submodule(name)).to('cpu', dtype)

    def _quantized(self, layer: nn.Linear) -> nn.Module:
        # Not at the top: importing it takes time and says on a CPU what it lacks.
        from bitsandbytes.nn import Linear4bit, Params4bit

        new = Linear4bit(
            layer.in_features, layer.out_features, bias=layer.bias is not None,
            compute_dtype=layer.weight.dtype, compress_statistics=self.double_quant,
            quant_type=self.quant_type, device='meta')
        new.weight = Params4bit(
            layer.weight.data, requires_grad=False, quant_type=self.quant_type,
            compress_statistics=self.double_quant, module=new)
        new.bias = layer.bias
        # Moving it to its device is what quantizes it.
        return new.to(layer.weight.device).train(layer.training)


def dequantized(layer: nn.Module) -> Tensor:
    """The weights (out, in) that a ``Linear4bit`` stands for."""
    from bitsandbytes.functional import dequantize_4bit

    return dequantize_4bit(layer.weight.data, layer.weight.quant_state)


def _unwrapped(runner: Runner) -> nn.Module:
    return runner.model.module if is_model_wrapper(runner.model) else runner.model
