"""Official checkpoints become a folder that glus_mm runs."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from mmengine import Config
from mmengine.logging import print_log
from torch import Tensor, nn

from glus_mm.conversion.config_file import (
    HERE,
    check_output_folder,
    check_space,
    config_text,
    origin_text,
    output_folder,
)
from glus_mm.conversion.official_config import (
    LLAVA,
    ClipTower,
    OfficialConfig,
    clip_folder,
    load_clip_tower,
    read_official_config,
)
from glus_mm.conversion.official_weights import (
    OFFICIAL_FCS,
    SAM2,
    SEG_PROJECTOR,
    VISION_TOWER,
    check_converted,
    run_dtype,
    split_weights,
    with_tower_names_of,
)
from glus_mm.conversion.plain_weights import empty_model
from glus_mm.conversion.sam2_weights import is_yaml, read_sam2_weights, sam2_image_size
from glus_mm.models.inference import GLUSTestCfg
from glus_mm.text.tokenizer import TOKENIZER_FILES, SegTokenizer
from glus_mm.utils.weight_files import own_storages, read_weights

YAML_NAME = 'sam2.yaml'
OUTPUTS = ('config.py', 'model.pth', *TOKENIZER_FILES, YAML_NAME)
# A part that SAM-2 has and SAM-1, which is what LISA holds, does not.
_MEMORY = f'{SAM2}memory_attention.'


@dataclass
class Source:
    """An official checkpoint that was opened.

    Attributes:
        folder: where it is.
        official: its config.json.
        tower: its vision tower.
        state: all weights that are kept, under our names; the data stay in the mapped files.
        inv_freq_dtype: type of the buffers that are not kept, None where it has none.
    """

    folder: Path
    official: OfficialConfig
    tower: ClipTower
    state: dict[str, Tensor]
    inv_freq_dtype: str | None


def convert_glus(hf_dir: str | Path,
                 out_dir: str | Path,
                 clip: str | None = None,
                 sam2: str = 'sam2_hiera_l',
                 num_context: int = 4,
                 num_query: int = 4,
                 memory_stride: int = 3,
                 force: bool = False) -> None:
    """Convert a checkpoint of GLUS.

    Every weight of the checkpoint has its place in the model, and every weight of the model comes
    from the checkpoint or from the vision tower; anything else is an error. Left aside are only
    the rotary frequencies, after a check that they follow from the sizes, and what a full CLIP
    has beside its vision tower. The weights keep their types.

    Args:
        hf_dir: folder in the official layout.
        out_dir: gets ``model.pth``, ``config.py``, the tokenizer and, where a YAML file was
            given, ``sam2.yaml``; a new or empty folder. ``config.py`` is written last.
        clip: folder or hub name of the vision tower; by default what config.json names.
        sam2: name of a SAM-2 config or a YAML file.
        num_context: context frames of a video.
        num_query: query frames in the sliding window.
        memory_stride: distance of the older memories.
        force: replace the files of an earlier conversion; others in ``out_dir`` stay.

    Raises:
        ConnectionError: the vision tower is on the hub, which cannot be reached.
        OSError: a file is missing, or cannot be written.
        ValueError: the checkpoint cannot be used; the message names file or key and what was
            expected. Nothing was written then.
    """
    out_dir = Path(out_dir).expanduser()
    test_cfg = GLUSTestCfg(num_context=num_context, window=num_query, memory_stride=memory_stride)
    source = open_source(hf_dir, out_dir, clip, force)
    if not any(name.startswith(_MEMORY) for name in source.state):
        raise ValueError(f'expected a checkpoint of GLUS, got {source.official.architecture} '
                         f'without SAM-2 (model.visual_model.memory_attention.*) in '
                         f'{source.folder}; tools/model_converters/lisa2mm.py makes the start of '
                         'a training from LISA')
    _write(source, out_dir, sam2, test_cfg, 'glus2mm', [])


def convert_lisa(hf_dir: str | Path,
                 out_dir: str | Path,
                 clip: str | None = None,
                 sam2: str = 'sam2_hiera_l',
                 sam2_checkpoint: str | None = None,
                 num_context: int = 4,
                 num_query: int = 4,
                 memory_stride: int = 3,
                 seed: int = 0,
                 force: bool = False) -> None:
    """Make the start of a GLUS training from LISA and SAM-2, as section B.2 of the paper does.

    LISA's own SAM-1 and its projector of seg tokens are discarded. The projector to the width of
    SAM-2 is new, float32, with the initial values of ``torch.nn.Linear``. The official code
    resizes the embeddings to the tokenizer at this point; rows beyond it, if there are any, are
    kept here, and are never used.

    Args:
        hf_dir: folder of LISA-7B-v1 or of another one in its layout.
        out_dir, clip, sam2: as for :func:`convert_glus`.
        sam2_checkpoint: file with the stock weights of SAM-2; by default the published one of the
            name ``sam2``, from the hub.
        num_context: context frames of a video.
        num_query: query frames in the sliding window.
        memory_stride: distance of the older memories.
        seed: of the new projector.
        force: as for :func:`convert_glus`.

    Raises:
        ConnectionError: vision tower or SAM-2 are on the hub, which cannot be reached.
        OSError: a file is missing, or cannot be written.
        ValueError: as for :func:`convert_glus`.
    """
    out_dir = Path(out_dir).expanduser()
    test_cfg = GLUSTestCfg(num_context=num_context, window=num_query, memory_stride=memory_stride)
    source = open_source(hf_dir, out_dir, clip, force)
    if any(name.startswith(_MEMORY) for name in source.state):
        raise ValueError(f'expected a checkpoint of LISA, whose SAM-1 is replaced, got one that '
                         f'holds a trained SAM-2: {source.folder}; use '
                         'tools/model_converters/glus2mm.py')
    discarded = [name for name in source.state
                 if name.startswith((SAM2, SEG_PROJECTOR)) or name.startswith(OFFICIAL_FCS)]
    for name in discarded:
        del source.state[name]
    file, stock = read_sam2_weights(sam2, sam2_checkpoint)
    source.state.update({SAM2 + name: value for name, value in stock.items()})
    notes = [f'The weights of SAM-2 are those of {file.name!r}; the projector of seg tokens is new '
             f'(seed {seed}).',
             f'{len(discarded)} weights of SAM-1 and of the projector to it were left out.']
    print_log(f'{source.folder}: {notes[1]}', 'current')
    _write(source, out_dir, sam2, test_cfg, 'lisa2mm', notes, seed)


def open_source(hf_dir: str | Path, out_dir: Path, clip: str | None, force: bool,
                what: str = LLAVA, model_types: tuple[str, ...] = ('llava', )) -> Source:
    """Read all that belongs to an official checkpoint but its tokenizer; nothing is written.

    Args:
        hf_dir, out_dir, clip, force: as for :func:`convert_glus`, likewise the errors.
        what, model_types: what is expected, see :func:`read_official_config`.
    """
    folder = Path(hf_dir).expanduser()
    official = read_official_config(folder, what, model_types)
    inputs = [path for path in (folder, clip_folder(clip, official)) if path is not None]
    check_output_folder(out_dir, OUTPUTS, inputs, force)
    state, tower, inv_freq_dtype = split_weights(read_weights(folder), official)
    tower = load_clip_tower(clip, official, tower)
    state |= {VISION_TOWER + name: value for name, value in tower.tensors.items()}
    return Source(folder, official, tower, state, inv_freq_dtype)


def _write(source: Source, out_dir: Path, sam2: str, test_cfg: GLUSTestCfg, tool: str,
           notes: list[str], seed: int | None = None) -> None:
    """Write the folder; with ``seed`` the projector of seg tokens is made new."""
    official, tokenizer = source.official, SegTokenizer.from_pretrained(source.folder)
    llm = dict(official.llm)
    if llm['vocab_size'] < len(tokenizer):
        raise ValueError(f'{official.file}: expected a vocab_size of at least {len(tokenizer)}, '
                         f'which is how many tokens the tokenizer in {source.folder} has, got '
                         f'{llm["vocab_size"]}')
    if llm['vocab_size'] == len(tokenizer):
        del llm['vocab_size']  # follows the tokenizer
    # With the switches that the official weights need.
    mllm = dict(
        type='LlavaMLLM', tokenizer=HERE, template='llava_v1', pooling='raster4',
        vision_crop='center', vision_select_layer=official.vision_select_layer,
        vision_tower=source.tower.sizes, llm=llm, trainable=[])
    mask_head = dict(
        type='SAM2MemoryHead', sam2=f'{HERE}/{YAML_NAME}' if is_yaml(sam2) else sam2,
        image_size=sam2_image_size(sam2), dynamic_multimask=True, trainable=[])
    used = {key: getattr(test_cfg, key)
            for key in ('use_memory', 'memory_stride', 'num_context', 'window')}
    model = dict(type='GLUS', dtype=run_dtype(source.state), mllm=mllm, mask_head=mask_head,
                 test_cfg=used)
    origin = origin_text(tool, source.folder, official.architecture, source.tower.name, sam2, notes)
    with output_folder(out_dir, OUTPUTS, 'config.py') as staging:
        for name in TOKENIZER_FILES:
            if (source.folder / name).is_file():
                shutil.copyfile(source.folder / name, staging / name)
        if is_yaml(sam2):
            shutil.copyfile(sam2, staging / YAML_NAME)
        config = staging / 'config.py'
        config.write_text(config_text(model, origin, tokenizer), encoding='utf-8')
        where = f'the sizes in {official.file}, in that of the vision tower or in --sam2 {sam2}'
        expected = empty_model(Config.fromfile(config), where).state_dict()
        source.state = with_tower_names_of(expected, source.state)
        if seed is not None:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                for layer in (0, 2):
                    width, wide = expected[f'{SEG_PROJECTOR}{layer}.weight'].shape
                    source.state |= {f'{SEG_PROJECTOR}{layer}.{name}': value for name, value
                                     in nn.Linear(wide, width).state_dict().items()}
        check_converted(expected, source.state, str(source.folder), sam2)
        check_space(staging, out_dir, sum(value.nbytes for value in source.state.values()))
        meta = dict(inv_freq_dtype=source.inv_freq_dtype)
        torch.save(dict(meta=meta, state_dict=own_storages(source.state)), staging / 'model.pth')
