"""A key-frame selector to start from, made from a GLUS or LLaVA checkpoint."""

from collections.abc import Mapping

import torch
from torch import Tensor

from glus_mm.models.selectors import KeyFrameSelector
from glus_mm.utils.checkpoint import list_keys

# Tables with a row for each token of the vocabulary.
TABLES = ('mllm.llm.embed_tokens.weight', 'mllm.lm_head.weight')
# The MLP on [SCORE] is new.
FRESH = ('mllm.seg_projector.', 'score.')


def selector_state(state: Mapping[str, Tensor], model: KeyFrameSelector,
                   source: str) -> dict[str, Tensor]:
    """Weights of a selector: the MLLM of a checkpoint, a row for ``[SCORE]``, a new MLP.

    The row is the mean of the others, as LLaVA does it with new tokens.

    Args:
        state: plain weights (no adapters) with the names of GLUS; those of other parts than the
            MLLM are left out.
        model: a selector with random weights and without adapters, whose MLP is taken.
        source: where the weights came from, for the error.

    Returns:
        The state dict of the model, its MLLM in the types of ``state``.

    Raises:
        ValueError: weights of the MLLM are missing or have another shape; lists them.
    """
    result, wrong = {}, []
    for name, own in model.state_dict().items():
        value = state.get(name)
        if name.startswith(FRESH):
            value = own
        elif name in TABLES and value is not None:
            value = _with_row(value, len(own), model.mllm.tokenizer.seg_id)
        if value is None or value.shape != own.shape:
            got = 'nothing' if value is None else tuple(value.shape)
            wrong.append(f'{name}: expected {tuple(own.shape)}, got {got}')
        result[name] = value
    if wrong:
        raise ValueError(list_keys(f'{source} does not fit the MLLM of the selector', wrong))
    return result


def _with_row(table: Tensor, size: int, index: int) -> Tensor:
    """A table (rows, D) with ``size`` rows, of which ``index`` and later ones are the mean."""
    mean = table[:index].float().mean(0).to(table.dtype)
    if len(table) > size:
        return table
    table = torch.cat([table, mean.expand(size - len(table), -1)])
    table[index] = mean
    return table
