"""Official checkpoints become a folder that glus_mm runs."""

import shutil
from collections.abc import Mapping
from pathlib import Path

import torch
from accelerate import init_empty_weights
from mmengine import Config
from torch import Tensor

from glus_mm.conversion.clip_tower import ClipTower, load_clip_tower
from glus_mm.conversion.config_file import (
    HERE,
    InferenceSettings,
    config_text,
    made_by,
    model_config,
)
from glus_mm.conversion.fit import check_converted
from glus_mm.conversion.official_config import OfficialConfig, read_official_config
from glus_mm.conversion.official_names import (
    INV_FREQ,
    OFFICIAL_TOWER,
    VISION_TOWER,
    to_ours,
)
from glus_mm.conversion.output_folder import check_output_folder, check_space, output_folder
from glus_mm.conversion.rope import check_inv_freq
from glus_mm.conversion.weight_files import DTYPES, Weights, read_weights
from glus_mm.models.heads.sam2_arch import load_sam2_yaml
from glus_mm.models.mllms.tokenizer import SegTokenizer
from glus_mm.registry import MODELS, build_child

TOKENIZER_FILES = ('tokenizer.model', 'added_tokens.json', 'tokenizer_config.json',
                   'special_tokens_map.json')
YAML_NAME = 'sam2.yaml'
OUTPUTS = ('config.py', 'model.pth', *TOKENIZER_FILES, YAML_NAME)


def convert_glus(hf_dir: str | Path,
                 out_dir: str | Path,
                 clip: str | None = None,
                 sam2: str = 'sam2_hiera_l',
                 num_context: int = 4,
                 num_query: int = 4,
                 memory_stride: int = 3,
                 force: bool = False) -> None:
    """Convert a checkpoint of GLUS.

    Args:
        hf_dir: folder in the official layout.
        out_dir: gets ``model.pth``, ``config.py`` and the tokenizer.
        clip: folder or hub name of the vision tower; by default what config.json names.
        sam2: name of a SAM-2 config or a YAML file.
        num_context: context frames of a video.
        num_query: query frames in the sliding window.
        memory_stride: distance of the older memories.
        force: replace files of an earlier conversion.

    Raises:
        ConnectionError: the vision tower is on the hub, which cannot be reached.
        OSError: a file is missing or cannot be written.
        ValueError: the checkpoint cannot be used; the message names file or key and what was
            expected. Nothing was written then.
    """
    hf_dir, out_dir = Path(hf_dir), Path(out_dir)
    settings = InferenceSettings(num_context, num_query, memory_stride)
    official = read_official_config(hf_dir)
    check_output_folder(out_dir, OUTPUTS, [hf_dir], force)
    tokenizer = SegTokenizer.from_pretrained(hf_dir)
    weights = read_weights(hf_dir)
    state, tower = _split(weights, official)
    clip_tower = load_clip_tower(clip, official, tower or None)
    state |= {VISION_TOWER + name: value for name, value in clip_tower.tensors.items()}
    _write(out_dir, official, tokenizer, clip_tower, state, sam2, settings, 'glus2mm')


def _split(weights: Weights, official: OfficialConfig
           ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Our names of all weights but the vision tower's, and those."""
    state, tower = {}, {}
    for name, value in weights.tensors.items():
        if name.endswith(INV_FREQ):
            check_inv_freq(name, value, official.llm, weights.files[name])
        elif name.startswith(OFFICIAL_TOWER):
            tower[name.removeprefix(OFFICIAL_TOWER)] = value
        else:
            state[to_ours(name) or name] = value
    return state, tower


def _write(out_dir: Path, official: OfficialConfig, tokenizer: SegTokenizer, tower: ClipTower,
           state: Mapping[str, Tensor], sam2: str, settings: InferenceSettings,
           tool: str) -> None:
    is_yaml = sam2.endswith(('.yaml', '.yml'))
    arch = load_sam2_yaml(sam2)
    model = model_config(
        official.llm, tower.sizes, official.vision_select_layer,
        f'{HERE}/{YAML_NAME}' if is_yaml else sam2, arch['image_size'],
        _run_dtype(state), settings)
    origin = (f'{made_by(tool)} the folder {official.file.parent.resolve().name!r} '
              f'({official.architecture}),\nthe vision tower {tower.name!r} and the SAM-2 config '
              f'{Path(sam2).name!r}.')
    with output_folder(out_dir, OUTPUTS, 'config.py') as staging:
        for name in TOKENIZER_FILES:
            if (official.file.parent / name).is_file():
                shutil.copyfile(official.file.parent / name, staging / name)
        if is_yaml:
            shutil.copyfile(sam2, staging / YAML_NAME)
        (staging / 'config.py').write_text(config_text(model, origin, tokenizer, settings),
                                           encoding='utf-8')
        expected = _empty_model_state(staging / 'config.py')
        check_converted(expected, state, official.file.parent, sam2)
        check_space(staging, sum(value.nbytes for value in state.values()))
        torch.save(dict(state_dict=_own_storages(state)), staging / 'model.pth')


def _empty_model_state(config: Path) -> dict[str, Tensor]:
    """State of the model that a config describes, without values."""
    with init_empty_weights():
        return build_child(MODELS, Config.fromfile(config).model).state_dict()


def _run_dtype(state: Mapping[str, Tensor]) -> str:
    """The type in which a model runs: that of its embeddings; bfloat16 for both half ones."""
    embeddings = state.get('mllm.llm.embed_tokens.weight')
    half = embeddings is not None and embeddings.dtype in DTYPES[1:]
    return 'bfloat16' if half else 'float32'


def _own_storages(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copy tensors that are a part of a larger storage: torch.save would write all of it."""
    return {name: value if value.untyped_storage().nbytes() == value.nbytes
            and value.is_contiguous() else value.clone(memory_format=torch.contiguous_format)
            for name, value in state.items()}
