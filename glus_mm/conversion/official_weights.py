"""The weights of an official checkpoint under our names."""

from collections.abc import Mapping

import torch
from torch import Tensor

from glus_mm.conversion.official_config import OfficialConfig
from glus_mm.conversion.official_names import INV_FREQ, OFFICIAL_TOWER, OURS, to_ours
from glus_mm.conversion.rope import check_inv_freq
from glus_mm.utils.weight_files import Weights

EMBEDDINGS = 'mllm.llm.embed_tokens.weight'


def split_weights(weights: Weights, official: OfficialConfig
           ) -> tuple[dict[str, Tensor], dict[str, Tensor], str | None]:
    """Give the weights of a checkpoint our names.

    Args:
        weights: under their official names.
        official: config.json of the checkpoint.

    Returns:
        All weights but the vision tower's under our names, or their own where we have none; the
        vision tower's, named as in a ``CLIPVisionModel``; the type of the rotary frequencies,
        which are checked and left out, None where there are none or several types.

    Raises:
        ValueError: a name is one of ours, or rotary frequencies do not follow from the sizes.
    """
    state, tower, dtypes = {}, {}, set()
    for name, value in weights.tensors.items():
        if name.startswith(OURS):
            raise ValueError(f'{weights.files[name]}: expected official names, got one of '
                             f'glus_mm: {name}')
        if name.endswith(INV_FREQ):
            check_inv_freq(name, value, official.llama, weights.files[name])
            dtypes.add(str(value.dtype).removeprefix('torch.'))
        elif name.startswith(OFFICIAL_TOWER):
            tower[name.removeprefix(OFFICIAL_TOWER)] = value
        else:
            state[to_ours(name) or name] = value
    return state, tower, dtypes.pop() if len(dtypes) == 1 else None


def run_dtype(state: Mapping[str, Tensor]) -> str:
    """The type in which a model runs: bfloat16 if its embeddings are of half precision."""
    embeddings = state.get(EMBEDDINGS)
    half = embeddings is not None and embeddings.dtype in (torch.float16, torch.bfloat16)
    return 'bfloat16' if half else 'float32'
