"""Low-rank adapters on the LLM, through peft."""

from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class LoRA:
    """Where and how low-rank adapters are added; the defaults are the paper's.

    Attributes:
        r: rank.
        alpha: scale; the update is multiplied by ``alpha / r``.
        dropout: on the adapter's input.
        target_modules: names of the linear layers.
    """

    r: int = 8
    alpha: int = 16
    dropout: float = 0.05
    target_modules: tuple[str, ...] = ('q_proj', 'v_proj')

    def inject(self, module: nn.Module) -> None:
        """Add the adapters in place; all other parameters of ``module`` are frozen."""
        # Not at the top: peft takes long to import, and most models have no adapters.
        from peft import LoraConfig, inject_adapter_in_model

        inject_adapter_in_model(
            LoraConfig(
                r=self.r, lora_alpha=self.alpha, lora_dropout=self.dropout, bias='none',
                target_modules=list(self.target_modules)), module)
        # MMEngine would have transformers draw what it has not made itself, which are the adapters:
        # a training would start from the published weights plus noise.
        module.is_init = True
        for name, parameter in module.named_parameters():
            parameter.requires_grad_('lora_' in name)
