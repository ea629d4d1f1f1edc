"""Does a converted state fill the model exactly? If not, say so in official names."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from glus_mm.conversion.official_names import CLIP_PREFIX, VISION_TOWER, to_official
from glus_mm.conversion.weight_files import DTYPES
from glus_mm.utils.checkpoint import list_keys


def official_label(name: str) -> str:
    """Name of one of our weights for a message: the official one, or where it comes from."""
    if name.startswith(VISION_TOWER):
        return f'vision tower: {CLIP_PREFIX}{name.removeprefix(VISION_TOWER)}'
    return to_official(name) or name


def check_converted(expected: Mapping[str, Tensor], state: Mapping[str, Tensor], folder: Path,
                    sam2: str) -> None:
    """Raise unless names, shapes and types fit and all values are finite.

    Args:
        expected: state of the model, possibly without values.
        state: what was converted, under our names.
        folder: of the checkpoint, for the message.
        sam2: the SAM-2 config, likewise.

    Raises:
        ValueError: with the keys, in official names, and the shapes.
    """
    shapes = [f'{official_label(name)}: expected {tuple(value.shape)}, got '
              f'{tuple(state[name].shape)}' for name, value in expected.items()
              if name in state and state[name].shape != value.shape]
    parts = [('missing', [official_label(n) for n in expected if n not in state]),
             ('unknown', [official_label(n) for n in state if n not in expected]),
             ('other shape', shapes)]
    if any(keys for _, keys in parts):
        raise ValueError('\n'.join(
            [f'{folder}: the weights do not fit the model of config.json, the vision tower and '
             f'--sam2 {sam2}', *(list_keys(title, keys) for title, keys in parts if keys)]))
    for name, value in state.items():
        check_values(official_label(name), value, folder)


def check_values(name: str, value: Tensor, source: Path) -> None:
    """Raise ``ValueError`` unless a tensor is of a floating-point type we know, and finite."""
    if value.dtype not in DTYPES:
        raise ValueError(f'{source}: expected float32, float16 or bfloat16, got {value.dtype}: '
                         f'{name}')
    # NaN and infinity show in the extremes; unlike isfinite this needs no memory.
    if value.numel() and not all(torch.isfinite(v) for v in value.aminmax()):
        raise ValueError(f'{source}: expected finite values, got NaN or infinity in {name}')
