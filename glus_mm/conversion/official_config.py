"""Read config.json of an official checkpoint (GLUS, LISA, LLaVA v1)."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from transformers import LlamaConfig

from glus_mm.utils.json_file import read_json_object

# Those of transformers 4.31, which the official code runs on.
ROPE_TYPES = ('default', 'linear', 'dynamic')
# In every LLaMA's config.json.
_REQUIRED = ('hidden_size', 'intermediate_size', 'num_hidden_layers', 'num_attention_heads',
             'vocab_size')
_OPTIONAL = ('num_key_value_heads', 'max_position_embeddings', 'rms_norm_eps', 'hidden_act',
             'head_dim', 'attention_bias', 'mlp_bias', 'initializer_range')
# What LlavaMLLM does not have: the only value that is possible, and the one that counts where
# the key is missing.
_FIXED = dict(
    mm_vision_select_feature=('patch', 'patch'), mm_use_im_start_end=(True, False),
    tie_word_embeddings=(False, False))


@dataclass(frozen=True)
class OfficialConfig:
    """What config.json says.

    Attributes:
        file: the file.
        architecture: such as ``'GLUSForCausalLM'``.
        llm: sizes for ``LlavaMLLM(llm=...)``.
        vision_tower: folder or hub name of the CLIP model.
        vision_width: width of its hidden states, None where it is not said.
        vision_select_layer: index into its hidden states.
    """

    file: Path
    architecture: str
    llm: dict[str, Any]
    vision_tower: str | None
    vision_width: int | None
    vision_select_layer: int


def read_official_config(folder: str | Path) -> OfficialConfig:
    """Read and check config.json.

    Args:
        folder: of the checkpoint.

    Returns:
        What it says.

    Raises:
        FileNotFoundError: there is no such folder or no config.json in it.
        ValueError: it is none of GLUS, LISA or LLaVA v1, or has what is not supported here.
    """
    folder = Path(folder)
    file = folder / 'config.json'
    what = 'a checkpoint of GLUS, LISA or LLaVA v1 in the layout of Hugging Face'
    if not folder.is_dir():
        got = 'a file' if folder.exists() else 'nothing there'
        raise FileNotFoundError(f'expected a folder with {what}, got {got}: {folder}')
    if not file.is_file():
        raise FileNotFoundError(f'expected {what}, but there is no {file}')
    values = read_json_object(file)
    missing = [key for key in _REQUIRED if not _is_size(values.get(key))]
    if values.get('model_type') != 'llava' or missing:
        lacks = f', without the LLaMA sizes {missing}' if missing else ''
        raise ValueError(f"expected {what} (model_type 'llava' and the sizes of a LLaMA), got "
                         f'model_type {values.get("model_type")!r}{lacks}: {file}')
    for key, (expected, default) in _FIXED.items():
        if values.get(key, default) != expected:
            raise ValueError(f'{file}: expected {key} {expected!r}, got '
                             f'{values.get(key, default)!r}')
    if values.get('mm_projector_type', 'linear') != 'linear':
        raise ValueError(f'{file}: expected one linear layer as projector (mm_projector_type '
                         f"'linear', as LLaVA v1, LISA and GLUS have it), got "
                         f'{values["mm_projector_type"]!r}, which LLaVA 1.5 has')
    llm = {key: values[key] for key in (*_REQUIRED, *_OPTIONAL) if values.get(key) is not None}
    return OfficialConfig(
        file=file,
        architecture=str((values.get('architectures') or ['unknown'])[0]),
        llm=_without_defaults(llm) | dict(rope_parameters=_read_rope(values, file)),
        vision_tower=values.get('mm_vision_tower') or values.get('vision_tower'),
        vision_width=values.get('mm_hidden_size'),
        vision_select_layer=_read_layer(values, file))


def _is_size(value: Any) -> bool:
    return type(value) is int and value > 0


def _without_defaults(llm: dict[str, Any]) -> dict[str, Any]:
    """Leave out optional values that follow from the others or that every LLaMA has."""
    defaults = dict(
        num_key_value_heads=None, head_dim=llm['hidden_size'] // llm['num_attention_heads'],
        attention_bias=False, mlp_bias=False)
    return {key: value for key, value in llm.items()
            if key not in defaults or value != defaults[key]}


def _read_layer(values: dict, file: Path) -> int:
    layer = values.get('mm_vision_select_layer', -2)
    if type(layer) is not int:
        raise ValueError(f'{file}: expected an integer as mm_vision_select_layer, got {layer!r}')
    return layer


def _read_rope(values: dict, file: Path) -> dict[str, Any]:
    """``rope_parameters`` of transformers 5, from its own keys or from older ones."""
    try:
        config = LlamaConfig.from_dict(
            {key: values[key] for key in ('rope_theta', 'rope_scaling', 'rope_parameters',
                                          'hidden_size', 'num_attention_heads',
                                          'max_position_embeddings')
             if values.get(key) is not None})
    except (KeyError, StrictDataclassError, TypeError, ValueError) as error:
        raise ValueError(f'{file}: rope_scaling or rope_parameters cannot be used: '
                         f'{error}') from error
    rope = {key: value for key, value in config.rope_parameters.items() if key != 'type'}
    if rope['rope_type'] not in ROPE_TYPES:
        raise ValueError(f'{file}: expected a rotary embedding of the type {ROPE_TYPES}, got '
                         f'{rope["rope_type"]!r}')
    return rope
