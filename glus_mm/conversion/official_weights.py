"""Names and weights of official checkpoints, ours of them, and whether they fill a model."""

from collections.abc import Iterable, Mapping
from typing import TypeVar

import torch
from torch import Tensor
from transformers import LlamaConfig

from glus_mm.conversion.official_config import CLIP_PREFIX, OfficialConfig
from glus_mm.conversion.sam2_weights import fitting_configs
from glus_mm.utils.checkpoint import is_finite, list_keys
from glus_mm.utils.weight_files import DTYPES, Weights

T = TypeVar('T')

# (official, ours). A vision tower is named as in CLIPVisionModel's files before transformers 5.
PREFIXES = (
    ('lm_head.', 'mllm.lm_head.'),
    ('model.embed_tokens.', 'mllm.llm.embed_tokens.'),
    ('model.layers.', 'mllm.llm.layers.'),
    ('model.norm.', 'mllm.llm.norm.'),
    ('model.mm_projector.', 'mllm.projector.'),
    ('model.text_hidden_fcs.0.', 'mllm.seg_projector.'),
    ('model.visual_model.', 'mask_head.sam2.'),
)
# What our names begin with.
OURS = ('mllm.', 'mask_head.')
VISION_TOWER = 'mllm.vision_tower.'
SAM2 = 'mask_head.sam2.'
SEG_PROJECTOR = 'mllm.seg_projector.'
# LISA has one; a longer list would be unknown here.
OFFICIAL_FCS = 'model.text_hidden_fcs.'
# Where official checkpoints that hold the vision tower have it (most leave it out).
OFFICIAL_TOWER = 'model.vision_tower.vision_tower.'
INV_FREQ = '.self_attn.rotary_emb.inv_freq'
EMBEDDINGS = 'mllm.llm.embed_tokens.weight'


def to_ours(name: str) -> str | None:
    """Our name of an official weight, None if there is none."""
    return _rename(name, PREFIXES)


def to_official(name: str) -> str | None:
    """Official name of one of our weights; None for what the official layout does not have."""
    return _rename(name, [(ours, official) for official, ours in PREFIXES])


def with_tower_names_of(model: Iterable[str], state: Mapping[str, T]) -> dict[str, T]:
    """Name the vision tower's weights as a model does.

    Args:
        model: names of its weights. Early versions of transformers 5 have CLIP's prefix
            ``vision_model.`` in them, later ones have not.
        state: weights under our names, without that prefix.
    """
    prefix = VISION_TOWER + CLIP_PREFIX
    if not any(name.startswith(prefix) for name in model):
        return dict(state)
    return {prefix + name.removeprefix(VISION_TOWER) if name.startswith(VISION_TOWER) else name:
            value for name, value in state.items()}


def _rename(name: str, prefixes: Iterable[tuple[str, str]]) -> str | None:
    for old, new in prefixes:
        if name.startswith(old):
            return new + name[len(old):]
    return None


def inv_freq(config: LlamaConfig) -> Tensor:
    """Inverse frequencies (Dh / 2) of an LLM, as transformers 4.31 computed them.

    Scaling types act later, on positions or at long sequences, and leave the buffer as it is.

    Returns:
        float32 (Dh / 2), Dh the width of a head.
    """
    width = config.head_dim
    return 1.0 / (config.rope_parameters['rope_theta']**(torch.arange(0, width, 2).float() / width))


def split_weights(weights: Weights, official: OfficialConfig
           ) -> tuple[dict[str, Tensor], dict[str, Tensor], str | None]:
    """Give the weights of a checkpoint our names.

    Args:
        weights: under their official names.
        official: config.json of the checkpoint.

    Returns:
        All weights but the vision tower's under our names, or their own where we have none; the
        vision tower's, named as in a ``CLIPVisionModel``; the type of the rotary frequencies,
        which are checked and left out, None where there are none or several types.

    Raises:
        ValueError: a name is one of ours, or rotary frequencies do not follow from the sizes.
    """
    state, tower, dtypes = {}, {}, set()
    for name, value in weights.tensors.items():
        if name.startswith(OURS):
            raise ValueError(f'{weights.files[name]}: expected official names, got one of '
                             f'glus_mm: {name}')
        if name.endswith(INV_FREQ):
            expected = inv_freq(official.llama).to(value.dtype)
            if value.shape != expected.shape or not torch.allclose(
                    value.float(), expected.float(), rtol=torch.finfo(value.dtype).eps, atol=0):
                raise ValueError(
                    f'{weights.files[name]}: expected {name} to be the rotary frequencies that '
                    f'config.json gives, {expected[:4].tolist()}... {tuple(expected.shape)}, got '
                    f'{value.flatten()[:4].tolist()}... {tuple(value.shape)}')
            dtypes.add(str(value.dtype).removeprefix('torch.'))
        elif name.startswith(OFFICIAL_TOWER):
            tower[name.removeprefix(OFFICIAL_TOWER)] = value
        else:
            state[to_ours(name) or name] = value
    return state, tower, dtypes.pop() if len(dtypes) == 1 else None


def run_dtype(state: Mapping[str, Tensor]) -> str:
    """The type in which a model runs: bfloat16 if its embeddings are of half precision."""
    embeddings = state.get(EMBEDDINGS)
    half = embeddings is not None and embeddings.dtype in (torch.float16, torch.bfloat16)
    return 'bfloat16' if half else 'float32'


def official_label(name: str) -> str:
    """Name of one of our weights for a message: the official one, where there is one."""
    if name.startswith(VISION_TOWER):
        short = name.removeprefix(VISION_TOWER).removeprefix(CLIP_PREFIX)
        return f'{CLIP_PREFIX}{short} (vision tower)'
    return to_official(name) or name


def check_converted(expected: Mapping[str, Tensor], state: Mapping[str, Tensor], source: str,
                    sam2: str | None) -> None:
    """Raise unless names, shapes and types fit and all values are finite.

    Args:
        expected: state of the model, possibly without values.
        state: what was converted, under our names.
        source: the checkpoint, for the message.
        sam2: the SAM-2 config, likewise; None for a model without.

    Raises:
        ValueError: with the keys, in official names, and the shapes.
    """
    missing = [name for name in expected if name not in state]
    unknown = [name for name in state if name not in expected]
    shapes = [name for name, value in expected.items()
              if name in state and state[name].shape != value.shape]
    if missing or unknown or shapes:
        described = 'config.json and the vision tower describe' if sam2 is None else (
            f'config.json, the vision tower and --sam2 {sam2} describe')
        raise ValueError('\n'.join([
            f'{source}: the weights do not fill the model that {described}',
            *_hints([*missing, *unknown, *shapes], state, sam2),
            *[list_keys(title, [f'{official_label(name)}: {shape(name)}' for name in names])
              for title, names, shape in (
                  ('missing, with the expected shape', missing,
                   lambda name: tuple(expected[name].shape)),
                  ('unknown, with the shape found', unknown, lambda name: tuple(state[name].shape)),
                  ('other shape', shapes, lambda name: f'expected {tuple(expected[name].shape)}, '
                                                       f'got {tuple(state[name].shape)}'))
              if names]]))
    for name, value in state.items():
        check_values(official_label(name), value, source)


def check_values(name: str, value: Tensor, source: str) -> None:
    """Raise ``ValueError`` unless a tensor is of a floating-point type we know, and finite.

    Args:
        name: its name, for the message.
        value: any shape.
        source: where it comes from, for the message.
    """
    if value.dtype not in DTYPES:
        raise ValueError(f'{source}: expected float32, float16 or bfloat16, got {value.dtype}: '
                         f'{name}')
    if not is_finite(value):
        raise ValueError(f'{source}: expected finite values, got NaN or infinity in {name}')


def _hints(names: list[str], state: Mapping[str, Tensor], sam2: str | None) -> list[str]:
    """What is most likely wrong, by the part of the model that the keys belong to."""
    hints = []
    if sam2 is not None and any(name.startswith(SAM2) for name in names):
        part = {name.removeprefix(SAM2): value for name, value in state.items()
                if name.startswith(SAM2)}
        fitting = fitting_configs(part)
        if not part:
            hints.append('There is no SAM-2 in the checkpoint.')
        elif not fitting:
            hints.append('None of the configs that the sam2 package ships has the sizes of the '
                         'SAM-2 of the checkpoint: give its YAML file with --sam2.')
        elif sam2 not in fitting:
            hints.append('The SAM-2 of the checkpoint has the sizes of --sam2 '
                         f'{" or ".join(fitting)}.')
    if any(name.startswith(VISION_TOWER) for name in names):
        hints.append('Give a folder whose config.json and weights agree with --clip.')
    if any(name.startswith('mllm.projector.') and name.split('.')[2].isdigit() for name in names):
        hints.append('The projector has several layers, as in LLaVA 1.5; LLaVA v1, LISA and GLUS '
                     'have one linear layer.')
    return hints
