"""A model of ours becomes a checkpoint in the official layout."""

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from huggingface_hub import save_torch_state_dict
from mmengine import Config
from mmengine.logging import print_log
from torch import Tensor, nn
from transformers import CLIPVisionConfig

from glus_mm.conversion.clip_tower import OPENAI_TOWERS, SIZES
from glus_mm.conversion.config_file import check_output_folder, check_space, output_folder
from glus_mm.conversion.fit import check_values, official_label
from glus_mm.conversion.official_config import check_official_settings
from glus_mm.conversion.official_files import write_json, write_official_files
from glus_mm.conversion.official_weights import (
    CLIP_PREFIX,
    INV_FREQ,
    VISION_TOWER,
    inv_freq,
    to_official,
)
from glus_mm.conversion.plain_weights import empty_model, merge_adapters
from glus_mm.models.data_preprocessor import RefVOSDataPreprocessor
from glus_mm.text.tokenizer import TOKENIZER_FILES
from glus_mm.utils.base_weights import complete_state
from glus_mm.utils.checkpoint import list_keys
from glus_mm.utils.checkpoint_files import read_checkpoint
from glus_mm.utils.config_input import config_from_file
from glus_mm.utils.modules import is_trained
from glus_mm.utils.precision import parse_dtype
from glus_mm.utils.weight_files import BIN, SAFETENSORS, own_storages

CLIP_FOLDER = 'clip'
OUTPUTS = ('config.json', 'generation_config.json', *TOKENIZER_FILES, *SAFETENSORS, *BIN,
           CLIP_FOLDER)
# The weight of each layer after which official files have the rotary buffer.
_BEFORE_BUFFER = '.self_attn.o_proj.weight'
_SIZE = re.compile(r'0*[1-9]\d*(\.\d+)? *[KMGT]B', re.IGNORECASE)


def export_official(config: str | Path | Config,
                    checkpoint: str | Path,
                    out_dir: str | Path,
                    max_shard_size: str = '10GB',
                    safe_serialization: bool = False,
                    vision_tower: str | None = None,
                    dtype: str | None = None,
                    force: bool = False) -> None:
    """Write a model in the layout of the official checkpoints.

    LoRA adapters are merged. The vision tower is left out, as officially, where it is one of
    OpenAI's and was not trained; else it goes into the folder ``clip`` beside the weights.

    The buffers ``rotary_emb.inv_freq`` are written as officially. Their type is that of the
    checkpoint which was converted; where that is not known, the type of the LLM, which is what
    transformers 4.31 leaves in a model that it loads in half precision.

    Args:
        config: of the model; a file or a config.
        checkpoint: its weights, those of a training too.
        out_dir: a new or empty folder; ``config.json`` is written last.
        max_shard_size: largest size of a weight file, such as ``'10GB'``; a single larger weight
            gets a file of its own.
        safe_serialization: write ``.safetensors`` files instead of ``.bin``.
        vision_tower: what config.json names; by default the hub name of OpenAI's tower of this
            size, else ``'clip'``.
        dtype: cast the weights, ``'bfloat16'`` for example; by default each keeps its type.
        force: replace the files of an earlier export; others in ``out_dir`` stay.

    Raises:
        OSError: a file is missing, or cannot be written.
        ValueError: the official code lacks what the model needs (with the list), or the
            checkpoint does not fit the config. Nothing was written then.
    """
    out_dir, checkpoint = Path(out_dir).expanduser(), Path(checkpoint).expanduser()
    if not _SIZE.fullmatch(max_shard_size):
        raise ValueError(f"expected a size such as '10GB' as the largest of a weight file, got "
                         f'{max_shard_size!r}')
    cast = None if dtype is None else parse_dtype(dtype, 'dtype')
    cfg = config if isinstance(config, Config) else _read_config(Path(config).expanduser())
    if not checkpoint.is_file():
        raise FileNotFoundError(f'expected a checkpoint file, got nothing there: {checkpoint}')
    check_output_folder(out_dir, OUTPUTS, [checkpoint.parent], force)
    name = str(cfg.filename or 'the config')
    model = empty_model(cfg, name)
    check_official_settings(model, cfg, name)
    content = read_checkpoint(checkpoint)
    state = merge_adapters(model, complete_state(content, checkpoint), str(checkpoint))
    for name, value in state.items():
        check_values(official_label(name), value, str(checkpoint))
    weights, tower = _split(state, cast)
    llm_dtype = weights[f'model.layers.0{_BEFORE_BUFFER}'].dtype
    weights = _with_buffers(weights, model, _buffer_dtype(content, cast, llm_dtype))
    name = vision_tower or _tower_name(model)
    with output_folder(out_dir, OUTPUTS, 'config.json') as staging:
        check_space(staging, out_dir, sum(value.nbytes for value in weights.values()))
        save_torch_state_dict(weights, staging, max_shard_size=max_shard_size,
                              safe_serialization=safe_serialization)
        if name == CLIP_FOLDER:
            _save_tower(staging / CLIP_FOLDER, model, tower)
        write_official_files(staging, model, name, str(llm_dtype).removeprefix('torch.'),
                             out_dir.name)


def _read_config(path: Path) -> Config:
    if not path.is_file():
        raise FileNotFoundError(f'expected a config file, got nothing there: {path}')
    return config_from_file(path)


def _split(state: Mapping[str, Tensor], cast: torch.dtype | None
           ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Weights under their official names, and the vision tower's under CLIP's."""
    weights, tower, left = {}, {}, []
    for name, value in state.items():
        if name.startswith(VISION_TOWER):
            short = name.removeprefix(VISION_TOWER).removeprefix(CLIP_PREFIX)
            tower[CLIP_PREFIX + short] = value.to(cast or value.dtype)
        elif (official := to_official(name)) is not None:
            weights[official] = value.to(cast or value.dtype)
        else:
            left.append(name)
    if left:
        print_log(list_keys('left out, as the official layout has no place for it', left),
                  'current')
    return own_storages(weights), own_storages(tower)


def _buffer_dtype(content: object, cast: torch.dtype | None,
                  llm_dtype: torch.dtype) -> torch.dtype | None:
    """Type of the rotary buffers; None if the checkpoint that was converted had none."""
    meta = content.get('meta') if isinstance(content, Mapping) else None
    if cast is not None or not isinstance(meta, Mapping) or 'inv_freq_dtype' not in meta:
        return llm_dtype
    stored = meta['inv_freq_dtype']
    return None if stored is None else parse_dtype(stored, 'meta.inv_freq_dtype')


def _with_buffers(weights: Mapping[str, Tensor], model: nn.Module,
                  dtype: torch.dtype | None) -> dict[str, Tensor]:
    """The weights and, beside each layer's, its rotary buffer."""
    result = {}
    for name, value in weights.items():
        result[name] = value
        if dtype is not None and name.endswith(_BEFORE_BUFFER) and name.startswith('model.layers'):
            layer = name.removesuffix(_BEFORE_BUFFER)
            result[layer + INV_FREQ] = inv_freq(model.mllm.llm.config).to(dtype)
    return result


def _tower_name(model: nn.Module) -> str:
    """Hub name of the vision tower if it can only be that one, else the folder it goes to."""
    config = model.mllm.vision_tower.config
    sizes = {key: getattr(config, key) for key in SIZES}
    if not is_trained(model.mllm.vision_tower):
        for name, known in OPENAI_TOWERS.items():
            if sizes == known:
                return name
    return CLIP_FOLDER


def _save_tower(folder: Path, model: nn.Module, tower: Mapping[str, Tensor]) -> None:
    """Write the vision tower as a CLIPVisionModel with its preprocessing."""
    folder.mkdir()
    save_torch_state_dict(dict(tower), folder)
    config = model.mllm.vision_tower.config
    values = {key: getattr(config, key) for key in SIZES}
    write_json(folder / 'config.json', values | dict(
        architectures=['CLIPVisionModel'], model_type=CLIPVisionConfig.model_type))
    side, usual = config.image_size, RefVOSDataPreprocessor()
    write_json(folder / 'preprocessor_config.json', dict(
        crop_size=dict(height=side, width=side), do_center_crop=True, do_normalize=True,
        do_rescale=True, do_resize=True, image_mean=usual.vision_mean.flatten().tolist(),
        image_processor_type='CLIPImageProcessor', image_std=usual.vision_std.flatten().tolist(),
        resample=3, rescale_factor=1 / 255, size=dict(shortest_edge=side)))
