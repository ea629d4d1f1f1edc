"""Which settings of a model the official code does not have."""

from typing import Any

from mmengine import Config
from torch import nn

from glus_mm.conversion.official_config import ROPE_THETA, ROPE_TYPES
from glus_mm.models import GLUS
from glus_mm.models.data_preprocessor import RefVOSDataPreprocessor
from glus_mm.models.heads.sam2_memory_head import SAM2MemoryHead
from glus_mm.models.mllms.llava import LlavaMLLM
from glus_mm.text.prompt import get_template

TEMPLATE = 'llava_v1'
POOLING = 'raster4'
CROP = 'center'
SAM2_IMAGE_SIZE = 1024


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
