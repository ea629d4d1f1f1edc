"""Read config.json of an official checkpoint (GLUS, LISA, LLaVA v1)."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from mmengine import Config
from torch import nn
from transformers import LlamaConfig

from glus_mm.models import GLUS
from glus_mm.models.data_preprocessor import RefVOSDataPreprocessor
from glus_mm.models.heads.sam2_memory_head import SAM2MemoryHead
from glus_mm.models.mllms.llava import LlavaMLLM
from glus_mm.text.prompt import get_template
from glus_mm.utils.hub import is_hub_name
from glus_mm.utils.json_file import read_json_object

LLAVA = 'a checkpoint of GLUS, LISA or LLaVA v1 in the layout of Hugging Face'
# Those of transformers 4.31, which the official code runs on.
ROPE_TYPES = ('default', 'linear', 'dynamic')
ROPE_THETA = 10000.0
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
TEMPLATE = 'llava_v1'
POOLING = 'raster4'
CROP = 'center'
SAM2_IMAGE_SIZE = 1024


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


def check_official_settings(model: nn.Module, cfg: Config, source: str) -> None:
    """Refuse a model that the official code cannot run alike.

    Args:
        model: the model, as built from ``cfg``.
        cfg: its config.
        source: the config's name, for the message.

    Raises:
        ValueError: with the list of settings, their values and what the official code has.
    """
    if type(model) is not GLUS or type(model.mllm) is not LlavaMLLM or \
            type(model.mask_head) is not SAM2MemoryHead:
        raise ValueError(f'expected a GLUS with LlavaMLLM and SAM2MemoryHead for the official '
                         f'layout, got {type(model).__name__}: {source}')
    rows = [f'  model.{key}: {value!r}, officially {official}'
            for key, value, official, same in _settings(model, cfg) if not same]
    if rows:
        raise ValueError('\n'.join(
            [f'{source}: cannot be written as an official model, as the official code has not '
             'these settings:', *rows]))


def _settings(model: GLUS, cfg: Config) -> list[tuple[str, Any, str, bool]]:
    """(key below model, value, what is official, whether that is so)."""
    mllm, head, llm = model.mllm, model.mask_head, model.mllm.llm.config
    theta, kind = llm.rope_parameters['rope_theta'], llm.rope_parameters['rope_type']
    stable = head.sam2.sam_mask_decoder.dynamic_multimask_via_stability
    sam2, usual = cfg.model.mask_head.sam2, RefVOSDataPreprocessor()
    head_dim = llm.hidden_size // llm.num_attention_heads
    rows = [
        ('mllm.template', cfg.model.mllm.get('template', TEMPLATE), TEMPLATE,
         mllm.template == get_template(TEMPLATE)),
        *[(f'mllm.{key}', getattr(mllm, key), value, getattr(mllm, key) == value)
          for key, value in (('pooling', POOLING), ('vision_crop', CROP))],
        *[(f'mllm.llm.{key}', getattr(llm, key), value, getattr(llm, key) == value)
          for key, value in (('attention_bias', False), ('mlp_bias', False),
                             ('head_dim', head_dim))],
        ('mllm.llm.rope_parameters.rope_theta', theta, ROPE_THETA, theta == ROPE_THETA),
        ('mllm.llm.rope_parameters.rope_type', kind, ' or '.join(ROPE_TYPES), kind in ROPE_TYPES),
        ('mask_head.sam2', sam2 if isinstance(sam2, str) else 'a dict of sizes',
         'the name of a config or a YAML file', isinstance(sam2, str)),
        ('mask_head.image_size', head.image_size, SAM2_IMAGE_SIZE,
         head.image_size == SAM2_IMAGE_SIZE),
        ('mask_head.dynamic_multimask', stable, True, stable),
    ]
    for name, value in usual.named_buffers():
        ours = getattr(model.data_preprocessor, name)
        rows.append((f'data_preprocessor.{name}', ours.flatten().tolist(),
                     value.flatten().tolist(), ours.allclose(value)))
    return rows
