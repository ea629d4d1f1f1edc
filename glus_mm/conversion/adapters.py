"""Merge LoRA adapters into the weights below them."""

from collections.abc import Mapping

from torch import Tensor, nn

from glus_mm.utils.checkpoint import adapt_lora, check_fit, list_keys
from glus_mm.utils.precision import is_adapter


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
