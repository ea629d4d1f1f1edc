"""Find and read the CLIP vision tower of an official checkpoint."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.logging import print_log
from torch import Tensor
from transformers import CLIPConfig, CLIPVisionConfig

from glus_mm.conversion.official_config import OfficialConfig, read_json
from glus_mm.conversion.official_names import CLIP_PREFIX
from glus_mm.conversion.weight_files import read_weights
from glus_mm.models.data_preprocessor import RefVOSDataPreprocessor
from glus_mm.utils.hub import download, is_hub_name

SIZES = ('hidden_size', 'intermediate_size', 'num_hidden_layers', 'num_attention_heads',
         'image_size', 'patch_size', 'hidden_act', 'layer_norm_eps')
# What a full CLIPModel has beside its vision tower, and index buffers of older versions.
EXPLAINED = ('text_model.', 'text_projection.', 'visual_projection.', 'logit_scale')
POSITION_IDS = 'embeddings.position_ids'
SETTINGS = ('config.json', 'preprocessor_config.json')
BICUBIC = 3


@dataclass(frozen=True)
class ClipTower:
    """A vision tower.

    Attributes:
        name: folder name or hub name, for people.
        sizes: for ``LlavaMLLM(vision_tower=...)``.
        tensors: its weights, named as in ``CLIPVisionModel`` without ``vision_model.``.
    """

    name: str
    sizes: dict[str, Any]
    tensors: dict[str, Tensor]


def load_clip_tower(clip: str | None, official: OfficialConfig,
                    tensors: Mapping[str, Tensor] | None = None) -> ClipTower:
    """Read the vision tower that goes with a checkpoint.

    Args:
        clip: folder or hub name; None for what the checkpoint's config.json names, relative to
            its folder, to the folder above, or on the hub.
        official: config.json of the checkpoint.
        tensors: the tower's weights if the checkpoint itself holds them, under the names of a
            ``CLIPVisionModel``. They are used unless ``clip`` is given.

    Returns:
        The tower.

    Raises:
        ConnectionError: the hub cannot be reached.
        FileNotFoundError: there is no such folder, or a file is missing in it.
        ValueError: it is no CLIP, or its preprocessing is another one than ours.
    """
    own = tensors if clip is None else None
    if clip is None and official.vision_tower is None:
        raise ValueError(f'{official.file}: expected mm_vision_tower, the name of a CLIP model, '
                         'got none; give its folder or hub name with --clip')
    name = clip or official.vision_tower
    folder = _find_folder(name, clip, official, with_weights=own is None)
    sizes = _read_sizes(folder / 'config.json')
    _check_preprocessing(folder / 'preprocessor_config.json', sizes['image_size'])
    if official.vision_width not in (None, sizes['hidden_size']):
        raise ValueError(f'expected a vision tower of the width {official.vision_width} (mm_hidden_'
                         f'size in {official.file}), got {sizes["hidden_size"]} in '
                         f'{folder / "config.json"}; give the right one with --clip')
    if own is None:
        own = read_weights(folder).tensors
    return ClipTower(Path(name).name if Path(name).is_dir() else name, sizes, _vision_part(own))


def _find_folder(name: str, clip: str | None, official: OfficialConfig,
                 with_weights: bool) -> Path:
    """The folder of a tower; where it is on the hub only, its snapshot."""
    home = official.file.parent
    places = [Path(clip)] if clip else [home / name, home.parent / name]
    for folder in places:
        if folder.is_dir():
            return folder
    if not is_hub_name(name):
        raise FileNotFoundError(
            f'expected the vision tower {name!r} as a folder '
            f'({", ".join(map(str, places))}) or as a name on the hub such as '
            'openai/clip-vit-large-patch14; give either with --clip')
    patterns = [*SETTINGS, 'model*.safetensors*'] if with_weights else SETTINGS
    hint = (f'Download {", ".join(SETTINGS)} and the weights of {name} where there is a network, '
            'and give the folder with --clip.')
    folder = download(name, patterns, hint)
    if with_weights and not any(folder.glob('model*.safetensors*')):
        folder = download(name, [*SETTINGS, 'pytorch_model*.bin*'], hint)
    return folder


def _read_sizes(file: Path) -> dict[str, Any]:
    """Sizes of the tower; a full CLIP has them nested, and may state only what is no default."""
    if not file.is_file():
        raise FileNotFoundError(f'expected a CLIP model, but there is no {file}')
    values = read_json(file)
    kind = values.get('model_type')
    if kind == 'clip':
        config = CLIPConfig.from_dict(values).vision_config
    elif kind == 'clip_vision_model':
        config = CLIPVisionConfig.from_dict(values)
    else:
        raise ValueError(f"expected a CLIP model (model_type 'clip' or 'clip_vision_model'), got "
                         f'{kind!r}: {file}')
    if config.num_channels != 3:
        raise ValueError(f'{file}: expected num_channels 3, got {config.num_channels}')
    return {key: getattr(config, key) for key in SIZES}


def _check_preprocessing(file: Path, image_size: int) -> None:
    """Refuse another preprocessing than ours: shortest side, centre crop, CLIP's mean and std."""
    if not file.is_file():
        print_log(f'there is no {file}: CLIP\'s own preprocessing to {image_size} is taken',
                  'current')
        return
    values = read_json(file)
    side = dict(height=image_size, width=image_size)
    expected = dict(
        do_resize=(True, ), do_center_crop=(True, ), do_normalize=(True, ), do_rescale=(True, ),
        resample=(BICUBIC, ), size=(image_size, dict(shortest_edge=image_size)),
        crop_size=(image_size, side))
    for key, allowed in expected.items():
        if values.get(key, allowed[0]) not in allowed:
            raise ValueError(f'{file}: expected {key} {" or ".join(map(str, allowed))}, as the '
                             f'tower with image_size {image_size} is served here, got '
                             f'{values[key]!r}')
    ours = RefVOSDataPreprocessor()
    for key, value in (('image_mean', ours.vision_mean), ('image_std', ours.vision_std)):
        expected = [round(v, 7) for v in value.flatten().tolist()]
        given = values.get(key, expected)
        if len(given) != 3 or not all(math.isclose(a, b, abs_tol=1e-6)
                                      for a, b in zip(given, expected)):
            raise ValueError(f'{file}: expected {key} {expected}, got {given!r}')


def _vision_part(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names without prefix; text part and projections, which GLUS has no use for, left out."""
    part = {}
    for key, value in tensors.items():
        name = key.removeprefix(CLIP_PREFIX)
        if key.startswith(EXPLAINED):
            continue
        if name == POSITION_IDS:
            if not torch.equal(value.flatten(), torch.arange(value.numel())):
                raise ValueError(f'expected {key} to count from 0, got {value.flatten()[:8]}')
            continue
        part[name] = value
    return part
