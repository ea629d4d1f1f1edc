"""The small files of a checkpoint in the official layout."""

import json
import shutil
from pathlib import Path
from typing import Any

from torch import nn

from glus_mm.text.tokenizer import TOKENIZER_FILES, SegTokenizer

# The version whose layout this is.
TRANSFORMERS = '4.31.0'
_SPECIAL = dict(bos_token='<s>', eos_token='</s>', unk_token='<unk>')


def write_official_files(folder: Path, model: nn.Module, vision_tower: str, dtype: str,
                         name: str) -> None:
    """Write config.json, generation_config.json and the tokenizer.

    Args:
        folder: where they go.
        model: the GLUS whose sizes they state.
        vision_tower: name of the CLIP model.
        dtype: type of the weights.
        name: of the checkpoint.
    """
    ids = dict(bos_token_id=model.mllm.tokenizer.bos_id, eos_token_id=model.mllm.tokenizer.eos_id,
               pad_token_id=model.mllm.tokenizer.pad_id)
    write_json(folder / 'config.json', _config(model, vision_tower, dtype, name) | ids)
    write_json(folder / 'generation_config.json', ids | dict(
        _from_model_config=True, transformers_version=TRANSFORMERS, use_cache=False))
    _write_tokenizer(folder, model.mllm.tokenizer)


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
