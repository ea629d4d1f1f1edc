"""Find and read the CLIP vision tower of an official checkpoint."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from mmengine.logging import print_log
from torch import Tensor
from transformers import CLIPConfig, CLIPVisionConfig

from glus_mm.conversion.official_config import OfficialConfig
from glus_mm.conversion.official_weights import CLIP_PREFIX
from glus_mm.models.data_preprocessor import RefVOSDataPreprocessor
from glus_mm.utils.hub import download, is_hub_name
from glus_mm.utils.json_file import read_json_object
from glus_mm.utils.weight_files import BIN, SAFETENSORS, read_weights

SIZES = ('hidden_size', 'intermediate_size', 'num_hidden_layers', 'num_attention_heads',
         'image_size', 'patch_size', 'hidden_act', 'layer_norm_eps')
_LARGE = dict(zip(SIZES, (1024, 4096, 24, 16, 224, 14, 'quick_gelu', 1e-5)))
# The towers of LLaVA v1, LISA and GLUS: a checkpoint that holds one needs no look at the hub.
OPENAI_TOWERS = {'openai/clip-vit-large-patch14': _LARGE,
                 'openai/clip-vit-large-patch14-336': dict(_LARGE, image_size=336)}
# What a full CLIPModel has beside its vision tower.
NOT_VISION = ('text_model.', 'text_projection.', 'visual_projection.', 'logit_scale')
# A buffer that older versions of transformers stored.
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
                    held: Mapping[str, Tensor]) -> ClipTower:
    """Read the vision tower that goes with a checkpoint.

    Args:
        clip: folder or hub name; None for what the checkpoint's config.json names, relative to
            its folder, to the folder above, or on the hub.
        official: config.json of the checkpoint.
        held: the tower's weights if the checkpoint itself holds them, under the names of a
            ``CLIPVisionModel``. They are used unless ``clip`` is given.

    Raises:
        ConnectionError: the hub cannot be reached.
        FileNotFoundError: there is no such folder, or a file is missing in it.
        ValueError: it is no CLIP, or its preprocessing is another one than ours.
    """
    name = clip or official.vision_tower
    if name is None:
        raise ValueError(f'{official.file}: expected mm_vision_tower, the name of a CLIP model, '
                         'got none; give its folder or hub name with --clip')
    if held and clip is not None:
        print_log(f'the vision tower is {clip}, not the one in {official.file.parent}', 'current')
    own = held if clip is None else {}
    if own and name in OPENAI_TOWERS:
        return ClipTower(name, OPENAI_TOWERS[name], _vision_part(own))
    folder = _find_folder(name, clip, official, with_weights=not own)
    sizes = _read_sizes(folder / 'config.json')
    _check_preprocessing(folder / 'preprocessor_config.json', sizes['image_size'])
    if official.vision_width not in (None, sizes['hidden_size']):
        raise ValueError(f'expected a vision tower of the width {official.vision_width} '
                         f'(mm_hidden_size in {official.file}), got {sizes["hidden_size"]} in '
                         f'{folder / "config.json"}; give the right one with --clip')
    tensors = own or read_weights(folder).tensors
    return ClipTower(name if is_hub_name(name) else Path(name).name, sizes, _vision_part(tensors))


def clip_folder(clip: str | None, official: OfficialConfig) -> Path | None:
    """The local folder that a vision tower is read from; None if it is on the hub or missing."""
    name = clip or official.vision_tower or ''
    home = official.file.parent
    places = [Path(clip).expanduser()] if clip else [home / name, home.parent / name]
    return next((folder for folder in places if name and folder.is_dir()), None)


def _find_folder(name: str, clip: str | None, official: OfficialConfig,
                 with_weights: bool) -> Path:
    """The folder of a tower; where it is on the hub only, its snapshot."""
    folder = clip_folder(clip, official)
    if folder is not None:
        return folder
    if not is_hub_name(name):
        said = '' if clip else f', which {official.file} names,'
        raise FileNotFoundError(
            f'expected the vision tower {name!r}{said} as a folder with a CLIP model or as a name '
            'on the hub such as openai/clip-vit-large-patch14, got neither; give one with --clip')
    hint = (f'Where there is a network, run "hf download {name} --local-dir DIR", and give that '
            'folder with --clip DIR.')
    folder = download(name, [*SETTINGS, *SAFETENSORS * with_weights], hint)
    if with_weights and not any(folder.glob(SAFETENSORS[0])):
        folder = download(name, [*SETTINGS, *BIN], hint)
    return folder


def _read_sizes(file: Path) -> dict[str, Any]:
    """Sizes of the tower; a full CLIP has them nested, and may state only what is no default."""
    if not file.is_file():
        raise FileNotFoundError(f'expected a CLIP model, but there is no {file}')
    values = read_json_object(file)
    kind = values.get('model_type')
    classes = dict(clip=CLIPConfig, clip_vision_model=CLIPVisionConfig)
    if kind not in classes:
        raise ValueError(f"{file}: expected a CLIP model (model_type 'clip' or "
                         f"'clip_vision_model'), got {kind!r}")
    try:
        config = classes[kind].from_dict(values)
    except (StrictDataclassError, TypeError, ValueError) as error:
        raise ValueError(f'{file}: expected the config of a CLIP model, got one that fails with: '
                         f'{error}') from error
    config = config.vision_config if kind == 'clip' else config
    if config.num_channels != 3:
        raise ValueError(f'{file}: expected num_channels 3, got {config.num_channels}')
    return {key: getattr(config, key) for key in SIZES}


def _check_preprocessing(file: Path, image_size: int) -> None:
    """Refuse another preprocessing than ours: shortest side, centre crop, CLIP's mean and std."""
    if not file.is_file():
        print_log(f"there is no {file}; CLIP's usual preprocessing to {image_size} pixels is meant",
                  'current')
        return
    values = read_json_object(file)
    ours = RefVOSDataPreprocessor()
    allowed = dict(
        do_resize=[True], do_center_crop=[True], do_rescale=[True], do_normalize=[True],
        resample=[BICUBIC], size=[image_size, dict(shortest_edge=image_size)],
        crop_size=[image_size, dict(height=image_size, width=image_size)],
        rescale_factor=[1 / 255],
        image_mean=[ours.vision_mean.flatten().tolist()],
        image_std=[ours.vision_std.flatten().tolist()])
    for key, expected in allowed.items():
        value = values.get(key)
        if value is not None and not any(_equal(value, one) for one in expected):
            raise ValueError(
                f'{file}: expected {key} {" or ".join(map(str, expected))}, which is how frames '
                f'come to a tower with image_size {image_size} here, got {value!r}')


def _equal(value: Any, expected: Any) -> bool:
    """Equality, for numbers up to the rounding of float32."""
    if isinstance(expected, list):
        return isinstance(value, list) and len(value) == len(expected) and all(
            map(_equal, value, expected))
    if isinstance(expected, float):
        return isinstance(value, (int, float)) and math.isclose(value, expected, abs_tol=1e-6)
    return value == expected


def _vision_part(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names without prefix; text part and projections, which GLUS has no use for, left out."""
    part = {}
    for key, value in tensors.items():
        if key.startswith(NOT_VISION):
            continue
        name = key.removeprefix(CLIP_PREFIX)
        if name in part:
            raise ValueError(f'expected each weight of the vision tower once, got {name} with and '
                             f'without {CLIP_PREFIX}')
        if name != POSITION_IDS:
            part[name] = value
        elif value.flatten().tolist() != list(range(value.numel())):
            raise ValueError(f'expected {key} of the vision tower to count from 0, got '
                             f'{value.flatten()[:8].tolist()}')
    return part
