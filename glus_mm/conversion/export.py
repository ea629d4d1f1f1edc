"""A model of ours becomes a checkpoint in the official layout."""

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import save_torch_state_dict
from mmengine import Config
from mmengine.logging import print_log
from torch import Tensor, nn
from transformers import CLIPVisionConfig

from glus_mm.conversion.config_file import check_output_folder, check_space, output_folder
from glus_mm.conversion.official_config import CLIP_PREFIX, OPENAI_TOWERS, ROPE_TYPES, SIZES
from glus_mm.conversion.official_weights import (
    INV_FREQ,
    VISION_TOWER,
    check_values,
    inv_freq,
    official_label,
    to_official,
)
from glus_mm.conversion.plain_weights import empty_model, merge_adapters
from glus_mm.models import GLUS
from glus_mm.models.data_preprocessor import RefVOSDataPreprocessor
from glus_mm.models.heads.sam2_memory_head import SAM2MemoryHead
from glus_mm.models.mllms.llava import LlavaMLLM
from glus_mm.text.prompt import get_template
from glus_mm.text.tokenizer import TOKENIZER_FILES, SegTokenizer
from glus_mm.utils.base_weights import complete_state
from glus_mm.utils.checkpoint import list_keys
from glus_mm.utils.checkpoint_files import read_checkpoint
from glus_mm.utils.config_input import config_from_file
from glus_mm.utils.modules import is_trained
from glus_mm.utils.precision import parse_dtype
from glus_mm.utils.weight_files import BIN, SAFETENSORS, own_storages

# The version whose layout this is.
TRANSFORMERS = '4.31.0'
_SPECIAL = dict(bos_token='<s>', eos_token='</s>', unk_token='<unk>')
CLIP_FOLDER = 'clip'
# The weight of each layer after which official files have the rotary buffer.
_BEFORE_BUFFER = '.self_attn.o_proj.weight'


def _config(model: nn.Module, vision_tower: str, dtype: str, name: str) -> dict[str, Any]:
    llm = model.mllm.llm.config
    kind = llm.rope_parameters['rope_type']
    scaling = None if kind == 'default' else dict(type=kind, factor=llm.rope_parameters['factor'])
    sizes = {key: getattr(llm, key) for key in (
        'hidden_act', 'hidden_size', 'initializer_range', 'intermediate_size',
        'max_position_embeddings', 'num_attention_heads', 'num_hidden_layers',
        'num_key_value_heads', 'rms_norm_eps', 'vocab_size')}
    return sizes | dict(
        _name_or_path=name,
        architectures=['GLUSForCausalLM'],
        freeze_mm_mlp_adapter=True,
        image_aspect_ratio='square',
        image_grid_pinpoints=None,
        mask_threshold=0.0,
        max_hole_area=0.0,
        max_sequence_length=llm.max_position_embeddings,
        max_sprinkle_area=0.0,
        mm_hidden_size=model.mllm.vision_tower.config.hidden_size,
        mm_use_im_patch_token=False,
        mm_use_im_start_end=True,
        mm_vision_select_feature='patch',
        mm_vision_select_layer=model.mllm.vision_select_layer,
        mm_vision_tower=vision_tower,
        model_type='llava',
        out_dim=model.mask_head.token_dim,
        pretrain_mm_mlp_adapter=None,
        pretraining_tp=1,
        rope_scaling=scaling,
        tie_word_embeddings=False,
        torch_dtype=dtype,
        train_mask_decoder=True,
        transformers_version=TRANSFORMERS,
        tune_mm_mlp_adapter=False,
        tune_mm_vision_resampler=False,
        unfreeze_mm_vision_tower=False,
        use_cache=False,
        use_mm_proj=True,
        vision_tower=vision_tower)


def _write_tokenizer(folder: Path, tokenizer: SegTokenizer) -> None:
    """Copy the tokenizer's files; what transformers needs beside them is made if it is missing."""
    source = Path(tokenizer.model_file).parent
    for name in TOKENIZER_FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, folder / name)
    special = {key: dict(content=text, lstrip=False, normalized=True, rstrip=False,
                         single_word=False) for key, text in _SPECIAL.items()}
    defaults = {
        'added_tokens.json': tokenizer.added_tokens,
        'special_tokens_map.json': special | dict(pad_token=_SPECIAL['unk_token']),
        'tokenizer_config.json': dict(
            add_bos_token=True, add_eos_token=False, clean_up_tokenization_spaces=False,
            legacy=True, model_max_length=512, padding_side='right', sp_model_kwargs={},
            tokenizer_class='LlamaTokenizer')}
    for name, content in defaults.items():
        if not (folder / name).is_file():
            write_json(folder / name, content)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file as Hugging Face does."""
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + '\n', encoding='utf-8')


OUTPUTS = ('config.json', 'generation_config.json', *TOKENIZER_FILES, *SAFETENSORS, *BIN,
           CLIP_FOLDER)
_SIZE = re.compile(r'0*[1-9]\d*(\.\d+)? *[KMGT]B', re.IGNORECASE)
ROPE_THETA = 10000.0
TEMPLATE = 'llava_v1'
POOLING = 'raster4'
CROP = 'center'
SAM2_IMAGE_SIZE = 1024


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
    cfg = config
    if not isinstance(cfg, Config):
        path = Path(config).expanduser()
        if not path.is_file():
            raise FileNotFoundError(f'expected a config file, got nothing there: {path}')
        cfg = config_from_file(path)
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
    buffer_dtype = llm_dtype
    meta = content.get('meta') if isinstance(content, Mapping) else None
    if cast is None and isinstance(meta, Mapping) and 'inv_freq_dtype' in meta:
        stored = meta['inv_freq_dtype']  # None if the checkpoint that was converted had no buffers
        buffer_dtype = None if stored is None else parse_dtype(stored, 'meta.inv_freq_dtype')
    if buffer_dtype is not None:
        official, weights = weights, {}
        for name, value in official.items():
            weights[name] = value
            if name.startswith('model.layers') and name.endswith(_BEFORE_BUFFER):
                # Beside each layer's, one of its own: what is shared is stored once.
                layer = name.removesuffix(_BEFORE_BUFFER)
                weights[layer + INV_FREQ] = inv_freq(model.mllm.llm.config).to(buffer_dtype)
    name = vision_tower or _tower_name(model)
    with output_folder(out_dir, OUTPUTS, 'config.json') as staging:
        check_space(staging, out_dir, sum(value.nbytes for value in weights.values()))
        save_torch_state_dict(weights, staging, max_shard_size=max_shard_size,
                              safe_serialization=safe_serialization)
        if name == CLIP_FOLDER:
            _save_tower(staging / CLIP_FOLDER, model, tower)
        tokenizer = model.mllm.tokenizer
        ids = dict(bos_token_id=tokenizer.bos_id, eos_token_id=tokenizer.eos_id,
                   pad_token_id=tokenizer.pad_id)
        write_json(staging / 'config.json', ids | _config(
            model, name, str(llm_dtype).removeprefix('torch.'), out_dir.name))
        write_json(staging / 'generation_config.json', ids | dict(
            _from_model_config=True, transformers_version=TRANSFORMERS, use_cache=False))
        _write_tokenizer(staging, tokenizer)


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
    mllm, head, llm = model.mllm, model.mask_head, model.mllm.llm.config
    sam2, kind = cfg.model.mask_head.sam2, llm.rope_parameters['rope_type']
    stable = head.sam2.sam_mask_decoder.dynamic_multimask_via_stability
    named, same_template = 'the name of a config or a YAML file', get_template(TEMPLATE)
    settings = [
        ('mllm.template', TEMPLATE if mllm.template == same_template else
         cfg.model.mllm.get('template', TEMPLATE), TEMPLATE),
        ('mllm.pooling', mllm.pooling, POOLING), ('mllm.vision_crop', mllm.vision_crop, CROP),
        ('mllm.llm.attention_bias', llm.attention_bias, False),
        ('mllm.llm.mlp_bias', llm.mlp_bias, False),
        ('mllm.llm.head_dim', llm.head_dim, llm.hidden_size // llm.num_attention_heads),
        ('mllm.llm.rope_parameters.rope_theta', llm.rope_parameters['rope_theta'], ROPE_THETA),
        ('mllm.llm.rope_parameters.rope_type', kind,
         kind if kind in ROPE_TYPES else ' or '.join(ROPE_TYPES)),
        ('mask_head.sam2', named if isinstance(sam2, str) else 'a dict of sizes', named),
        ('mask_head.image_size', head.image_size, SAM2_IMAGE_SIZE),
        ('mask_head.dynamic_multimask', stable, True)]
    wrong = [row for row in settings if row[1] != row[2]]
    for name, value in RefVOSDataPreprocessor().named_buffers():
        ours = getattr(model.data_preprocessor, name)
        if not ours.allclose(value):
            wrong.append((f'data_preprocessor.{name}', ours.flatten().tolist(),
                          value.flatten().tolist()))
    if wrong:
        raise ValueError('\n'.join(
            [f'{source}: cannot be written as an official model, as the official code has not '
             'these settings:', *(f'  model.{key}: {value!r}, officially {official}'
                                  for key, value, official in wrong)]))
