"""Read config.json of an official checkpoint (GLUS, LISA, LLaVA v1) and the tower that it names."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from mmengine.logging import print_log
from torch import Tensor
from transformers import CLIPConfig, CLIPVisionConfig, LlamaConfig

from glus_mm.models.data_preprocessor import RefVOSDataPreprocessor
from glus_mm.utils.hub import download, is_hub_name
from glus_mm.utils.json_file import read_json_object
from glus_mm.utils.weight_files import download_weights, read_weights

LLAVA = 'a checkpoint of GLUS, LISA or LLaVA v1 in the layout of Hugging Face'
# Those of transformers 4.31, which the official code runs on.
ROPE_TYPES = ('default', 'linear', 'dynamic')
# In every LLaMA's config.json.
_REQUIRED = ('hidden_size', 'intermediate_size', 'num_hidden_layers', 'num_attention_heads',
             'vocab_size')
_OPTIONAL = ('num_key_value_heads', 'max_position_embeddings', 'rms_norm_eps', 'hidden_act',
             'initializer_range', 'head_dim', 'attention_bias', 'mlp_bias')
_ROPE = ('rope_theta', 'rope_scaling', 'rope_parameters')
# What LlavaMLLM does not have: the only value that is possible, and the one that counts where
# the key is missing. mm_use_im_start_end is not among them: the official prompt puts <im_start> and
# <im_end> around images whatever it says.
_FIXED = dict(
    mm_vision_select_feature=('patch', 'patch'), tie_word_embeddings=(False, False))
CLIP_PREFIX = 'vision_model.'
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
class OfficialConfig:
    """What config.json says.

    Attributes:
        architecture: such as ``'GLUSForCausalLM'``.
        llama: sizes of the LLM.
        llm: the same for ``LlavaMLLM(llm=...)``.
        vision_tower: folder or hub name of the CLIP model.
        vision_width: width of its hidden states, None where it is not said.
        vision_select_layer: index into its hidden states.
        values: all of it, as it stands in the file.
    """

    file: Path
    architecture: str
    llama: LlamaConfig
    llm: dict[str, Any]
    vision_tower: str | None
    vision_width: int | None
    vision_select_layer: int
    values: dict[str, Any]


def read_official_config(folder: str | Path, what: str = LLAVA,
                         model_types: tuple[str, ...] = ('llava', )) -> OfficialConfig:
    """Read and check config.json.

    Args:
        folder: of the checkpoint.
        what: what is expected, for messages.
        model_types: what it may call itself.

    Raises:
        FileNotFoundError: there is no such folder or no config.json in it.
        ValueError: it is of another kind, or has what is not supported here.
    """
    folder = Path(folder)
    file = folder / 'config.json'
    if not folder.is_dir():
        got = 'a file' if folder.exists() else 'nothing there'
        hint = f'; run "hf download {folder} --local-dir DIR" first' if is_hub_name(
            str(folder)) else ''
        raise FileNotFoundError(f'expected a folder with {what}, got {got}: {folder}{hint}')
    if not file.is_file():
        raise FileNotFoundError(f'expected {what}, but there is no {file}')
    values = read_json_object(file)
    missing = [key for key in _REQUIRED
               if type(values.get(key)) is not int or values[key] <= 0]
    if values.get('model_type') not in model_types or missing:
        lacks = f', without the LLaMA sizes {missing}' if missing else ''
        kinds = ' or '.join(map(repr, model_types))
        raise ValueError(f'expected {what} (model_type {kinds} and the sizes of a LLaMA), got '
                         f'model_type {values.get("model_type")!r}{lacks}: {file}')
    for key, (expected, default) in _FIXED.items():
        if values.get(key, default) != expected:
            raise ValueError(f'{file}: expected {key} {expected!r}, got '
                             f'{values.get(key, default)!r}')
    if values.get('mm_projector_type', 'linear') != 'linear':
        raise ValueError(f'{file}: expected one linear layer as projector (mm_projector_type '
                         f"'linear', as LLaVA v1, LISA and GLUS have it), got "
                         f'{values["mm_projector_type"]!r}, which LLaVA 1.5 has')
    layer = values.get('mm_vision_select_layer', -2)
    if type(layer) is not int:
        raise ValueError(f'{file}: expected an integer as mm_vision_select_layer, got {layer!r}')
    llama = _llama_config(values, file)
    return OfficialConfig(
        file=file,
        architecture=str((values.get('architectures') or ['unknown'])[0]),
        llama=llama,
        llm=_llm_sizes(llama),
        vision_tower=values.get('mm_vision_tower') or values.get('vision_tower'),
        vision_width=values.get('mm_hidden_size'),
        vision_select_layer=layer,
        values=values)


def _llm_sizes(llama: LlamaConfig) -> dict[str, Any]:
    """Keys of ``LlavaMLLM(llm=...)``; what every LLaMA has or what follows is left out."""
    usual = dict(head_dim=llama.hidden_size // llama.num_attention_heads, attention_bias=False,
                 mlp_bias=False)
    sizes = {key: getattr(llama, key) for key in (*_REQUIRED, *_OPTIONAL)}
    rope = {key: value for key, value in llama.rope_parameters.items() if key != 'type'}
    return {key: value for key, value in sizes.items()
            if key not in usual or value != usual[key]} | dict(rope_parameters=rope)


def _llama_config(values: dict, file: Path) -> LlamaConfig:
    """The LLM's sizes as transformers 5 has them; it reads the keys of older versions too."""
    keys = (*_REQUIRED, *_OPTIONAL, *_ROPE)
    given = {key: values[key] for key in keys if values.get(key) is not None}
    try:
        config = LlamaConfig.from_dict(given)
    except (KeyError, StrictDataclassError, TypeError, ValueError) as error:
        raise ValueError(f'{file}: expected the sizes of a LLaMA, got some that fail with: '
                         f'{error}') from error
    if config.num_attention_heads % config.num_key_value_heads:
        raise ValueError(f'{file}: expected a num_key_value_heads that divides the '
                         f'{config.num_attention_heads} heads, got {config.num_key_value_heads}')
    kind = config.rope_parameters['rope_type']
    if kind not in ROPE_TYPES:
        raise ValueError(f'{file}: expected a rotary embedding of a type in {ROPE_TYPES}, got '
                         f'{kind!r}')
    return config


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
    return download_weights(name, SETTINGS, hint) if with_weights else download(
        name, SETTINGS, hint)


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
