"""Hold the frozen linear layers of the LLM in 4 bits while training, for small accelerators."""

import logging

import torch
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import Runner

from glus_mm.registry import HOOKS
from glus_mm.utils.checked import checked
from glus_mm.utils.modules import unwrapped
from glus_mm.utils.quantize import (
    QUANT_TYPES,
    check_bitsandbytes,
    dequantized,
    quantize_frozen,
)


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
        checked(QUANT_TYPES, quant_type=quant_type)
        check_bitsandbytes('QuantizeHook')
        self.quant_type = quant_type
        self.double_quant = double_quant
        self._types: dict[str, torch.dtype] = {}

    def before_train(self, runner: Runner) -> None:
        """Replace the layers.

        Raises:
            ValueError: no layer of the LLM is frozen.
        """
        self._types = quantize_frozen(unwrapped(runner.model), self.quant_type, self.double_quant)
        print_log(f'{len(self._types)} frozen linear layers of the LLM are in 4 bits '
                  f'({self.quant_type})', 'current', logging.INFO)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Put in weights in place of their codes.

        Args:
            checkpoint: what is about to be saved; changed in place.
        """
        state = checkpoint.get('state_dict')
        if state is None or not self._types:
            return
        model = unwrapped(runner.model)
        for name, dtype in self._types.items():
            for key in [key for key in state if key.startswith(f'{name}.weight')]:
                del state[key]
            state[f'{name}.weight'] = dequantized(model.get_submodule(name)).to('cpu', dtype)
