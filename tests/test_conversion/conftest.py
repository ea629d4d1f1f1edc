"""Small checkpoints in the official layout, with random weights, in many variants."""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine import Config
from omegaconf import OmegaConf
from safetensors.torch import save_file
from torch import Tensor

from glus_mm.conversion.official_weights import CLIP_PREFIX, VISION_TOWER, inv_freq, to_official
from glus_mm.conversion.plain_weights import empty_model
from glus_mm.models.heads.sam2_arch import sam2_sizes
from programs import ROOT

DATA = ROOT / 'tests' / 'data'
TOKENIZER = DATA / 'official_prompt'
TOWER = dict(
    hidden_size=8, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2,
    image_size=28, patch_size=14, hidden_act='quick_gelu', layer_norm_eps=1e-5)
LLM = dict(
    hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=512, rms_norm_eps=1e-6, hidden_act='silu')
SAM2 = dict(embed_dim=8, stages=(1, 1, 1, 1), global_att_blocks=(3, ), d_model=32, mem_dim=16,
            num_memory_layers=1, ffn_dim=32)
CONFIG = dict(
    LLM, architectures=['GLUSForCausalLM'], model_type='llava', vocab_size=483,
    mm_hidden_size=TOWER['hidden_size'], mm_projector_type='linear', mm_use_im_start_end=True,
    mm_vision_select_feature='patch', mm_vision_select_layer=-2, mm_vision_tower='clip',
    rope_scaling=None, tie_word_embeddings=False)
PREPROCESSING = dict(
    crop_size=28, do_center_crop=True, do_normalize=True, do_resize=True,
    image_mean=[0.48145466, 0.4578275, 0.40821073],
    image_std=[0.26862954, 0.26130258, 0.27577711], resample=3, size=28)


@dataclass
class OfficialFolder:
    """A checkpoint of GLUS, its vision tower and its SAM-2 config.

    Attributes:
        root: holds all of it.
        tensors: the checkpoint's weights under their official names.
        tower: the vision tower's, as CLIPVisionModel's files had them before transformers 5.
    """

    root: Path
    tensors: dict[str, Tensor]
    tower: dict[str, Tensor]

    @property
    def hf(self) -> Path:
        """Folder of the checkpoint."""
        return self.root / 'hf'

    @property
    def clip(self) -> Path:
        """Folder of the vision tower."""
        return self.root / 'clip'

    @property
    def yaml(self) -> str:
        """The SAM-2 config."""
        return str(self.root / 'tiny.yaml')

    @property
    def out(self) -> Path:
        """Where to write; it does not exist."""
        return self.root / 'out'

    def edit(self, name: str, **values: Any) -> None:
        """Set keys of a JSON file below ``root``; None takes a key out."""
        path = self.root / name
        content = json.loads(path.read_text()) | values
        path.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))

    def save(self) -> None:
        """Write ``tensors`` and ``tower`` again, after a change."""
        save_weights(self.hf, self.tensors)
        save_weights(self.clip, self.tower)


def save_weights(folder: Path, tensors: Mapping[str, Tensor], kind: str = 'bin',
                 shards: int = 1) -> None:
    """Write weights in one of the layouts of Hugging Face, in place of those that are there."""
    for old in (*folder.glob('*.bin*'), *folder.glob('*.safetensors*')):
        old.unlink()
    stem, end = dict(bin=('pytorch_model', 'bin'), legacy=('pytorch_model', 'bin'),
                     safetensors=('model', 'safetensors'))[kind]
    names = [f'{stem}.{end}'] if shards == 1 else [
        f'{stem}-{i + 1:05}-of-{shards:05}.{end}' for i in range(shards)]
    weight_map = {key: names[i * shards // len(tensors)] for i, key in enumerate(tensors)}
    for name in names:
        held = {key: tensors[key].clone() for key in tensors if weight_map[key] == name}
        if kind == 'safetensors':
            save_file(held, folder / name)
        else:
            torch.save(held, folder / name, _use_new_zipfile_serialization=kind == 'bin')
    if shards > 1:
        index = dict(metadata={}, weight_map=weight_map)
        (folder / f'{stem}.{end}.index.json').write_text(json.dumps(index))


@pytest.fixture(scope='session')
def official_source(tmp_path_factory) -> OfficialFolder:
    """The checkpoint that all tests copy."""
    root = tmp_path_factory.mktemp('official')
    for name in ('hf', 'clip'):
        (root / name).mkdir()
    for file in TOKENIZER.glob('*token*'):
        shutil.copyfile(file, root / 'hf' / file.name)
    (root / 'hf' / 'config.json').write_text(json.dumps(CONFIG))
    (root / 'clip' / 'config.json').write_text(json.dumps(dict(
        TOWER, architectures=['CLIPVisionModel'], model_type='clip_vision_model')))
    (root / 'clip' / 'preprocessor_config.json').write_text(json.dumps(PREPROCESSING))
    yaml = OmegaConf.create(dict(model=dict(sam2_sizes(**SAM2), image_size=1024)))
    OmegaConf.save(yaml, root / 'tiny.yaml')
    model = empty_model(Config(dict(model=dict(
        type='GLUS',
        mllm=dict(type='LlavaMLLM', tokenizer=str(root / 'hf'), vision_tower=TOWER, llm=LLM),
        mask_head=dict(type='SAM2MemoryHead', sam2=str(root / 'tiny.yaml'), image_size=1024)))),
        'the tests')
    generator = torch.Generator().manual_seed(0)
    tensors, tower = {}, {}
    for name, value in model.state_dict().items():
        value = torch.randn(value.shape, generator=generator)
        if name.startswith(VISION_TOWER):
            short = name.removeprefix(VISION_TOWER).removeprefix(CLIP_PREFIX)
            tower[CLIP_PREFIX + short] = value
        else:
            tensors[to_official(name)] = value
    for layer in range(LLM['num_hidden_layers']):
        name = f'model.layers.{layer}.self_attn.rotary_emb.inv_freq'
        tensors[name] = inv_freq(model.mllm.llm.config)
    return OfficialFolder(root, tensors, tower)


@pytest.fixture
def official(official_source, tmp_path) -> OfficialFolder:
    """A checkpoint to change."""
    shutil.copytree(official_source.root, tmp_path / 'official')
    folder = OfficialFolder(tmp_path / 'official', dict(official_source.tensors),
                            dict(official_source.tower))
    folder.save()
    return folder


@pytest.fixture
def lisa(official) -> OfficialFolder:
    """The same as a LISA: SAM-1 in place of SAM-2, another projector; SAM-2 in ``sam2.pt``."""
    official.edit('hf/config.json', architectures=['LISAForCausalLM'])
    prefix = 'model.visual_model.'
    stock = {key.removeprefix(prefix): value for key, value in official.tensors.items()
             if key.startswith(prefix)}
    torch.save(dict(model=stock), official.root / 'sam2.pt')
    for key in [key for key in official.tensors if key.startswith((prefix, 'model.text_'))]:
        del official.tensors[key]
    official.tensors |= {
        f'{prefix}image_encoder.pos_embed': torch.randn(1, 4, 4, 8),
        f'{prefix}mask_decoder.iou_token.weight': torch.randn(1, 8),
        'model.text_hidden_fcs.0.0.weight': torch.randn(16, 16),
        'model.text_hidden_fcs.0.2.weight': torch.randn(256, 16)}
    official.save()
    return official


@pytest.fixture
def fails(official) -> Callable[..., str]:
    """Check that a call is refused and nothing was written; returns the message."""

    def check(call: Callable, *args: Any, kind: type[Exception] = ValueError,
              **options: Any) -> str:
        with pytest.raises(kind) as error:
            call(*args, **options)
        assert not official.out.exists()
        return str(error.value)

    return check


@pytest.fixture(scope='session')
def write_weights() -> Callable[..., None]:
    """The function :func:`save_weights`."""
    return save_weights
