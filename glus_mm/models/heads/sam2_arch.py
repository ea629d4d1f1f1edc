"""Build a SAM-2 from a name, a YAML file or a few sizes, from the code of one of two packages."""

import inspect
import logging
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mmengine.logging import print_log
from omegaconf import OmegaConf
from torch import nn

from glus_mm.utils.checked import checked
from glus_mm.utils.modules import check_keys

STRIDE = 16
"""Of the lowest-resolution features and the memories."""
INSTALL_SAM2 = ('pip install setuptools wheel && SAM2_BUILD_CUDA=0 '
                'pip install --no-build-isolation "glus_mm[sam2]"')
_DYNAMIC_MULTIMASK = dict(
    dynamic_multimask_via_stability=True,
    dynamic_multimask_stability_delta=0.05,
    dynamic_multimask_stability_thresh=0.98)
BACKENDS = ('auto', 'sam2', 'transformers')
# Sizes of the published models by the end of their names, as arguments of sam2_sizes.
_TRUNKS = {
    't': dict(embed_dim=96, num_heads=1, stages=(1, 2, 7, 2), global_att_blocks=(5, 7, 9)),
    's': dict(embed_dim=96, num_heads=1, stages=(1, 2, 11, 2), global_att_blocks=(7, 10, 13)),
    'b+': dict(embed_dim=112, num_heads=2, stages=(2, 3, 16, 3), global_att_blocks=(12, 16, 20),
               bkg_size=(14, 14)),
    'l': dict(embed_dim=144, num_heads=2, stages=(2, 6, 36, 4), global_att_blocks=(23, 33, 43),
              window_spec=(8, 4, 16, 8)),
}
_HUB_SIZES = {'t': 'tiny', 's': 'small', 'b+': 'base-plus', 'l': 'large'}
PUBLISHED = {
    f'sam{version}_hiera_{size}': (
        f'facebook/sam{version}-hiera-{name}', f'sam{version}_hiera_{name.replace("-", "_")}.pt')
    for version in ('2', '2.1') for size, name in _HUB_SIZES.items()}
"""Names of the published models: repository on the hub and file in it, in Meta's layout."""


def choose_backend(backend: str) -> str:
    """The package whose code runs SAM-2.

    Args:
        backend: one of :data:`BACKENDS`; ``'auto'`` takes ``sam2`` where it is installed.

    Returns:
        ``'sam2'`` or ``'transformers'``.

    Raises:
        ModuleNotFoundError: ``sam2`` is asked for and not installed.
        ValueError: there is no such backend.
    """
    checked(BACKENDS, 'model.mask_head.', backend=backend)
    # Its models are built by hydra, which an installation without dependencies lacks.
    found = all(find_spec(name) is not None for name in ('sam2', 'hydra'))
    if backend == 'sam2' and not found:
        raise ModuleNotFoundError(
            "model.mask_head.backend='sam2' needs the packages sam2 and hydra-core: "
            f'{INSTALL_SAM2}, or take backend=\'transformers\'')
    return backend if backend != 'auto' else 'sam2' if found else 'transformers'


def build_sam2(arch: str | dict, image_size: int, dynamic_multimask: bool = True,
               backend: str = 'auto') -> nn.Module:
    """Build a SAM-2 with random weights.

    Args:
        arch: the name of a published model (``'sam2_hiera_l'``, ``'sam2.1_hiera_t'``), the path
            of a YAML file in the format of the ``sam2`` package, or the sizes of
            :func:`sam2_sizes`.
        image_size: side S of the input, a multiple of 32.
        dynamic_multimask: in eval mode, take the best of mask tokens 1 to 3 where token 0 is not
            stable, as the official code does. A model that never trained these tokens must not.
        backend: see :func:`choose_backend`; the log says which it is.

    Returns:
        ``SAM2Base`` of the unmodified ``sam2`` package, or
        :class:`~glus_mm.models.heads.transformers_parts.TrackerParts`, which has the same names,
        weights and results.

    Raises:
        FileNotFoundError: there is no such name or file.
        ModuleNotFoundError: ``sam2`` is asked for and not installed.
        ValueError: ``image_size`` does not fit the strides, there is no such backend, or a value
            is one that the package cannot have.
    """
    if image_size % (2 * STRIDE):
        raise ValueError(f'image_size of SAM-2 must be a multiple of {2 * STRIDE}, '
                         f'got {image_size}')
    model = _load_arch(arch)
    backend = choose_backend(backend)
    print_log(f'SAM-2 runs on the package {backend}', 'current', logging.INFO)
    if backend == 'transformers':
        from glus_mm.models.heads.transformers_parts import build_parts
        return build_parts(model, image_size, dynamic_multimask)
    from hydra.errors import HydraException
    from hydra.utils import instantiate

    model['image_size'] = image_size
    model['sam_mask_decoder_extra_args'] = dict(_DYNAMIC_MULTIMASK) if dynamic_multimask else None
    for attention in ('self_attention', 'cross_attention'):
        # Only the size for which the rotary table is made first; it follows the input anyway.
        model['memory_attention']['layer'][attention]['feat_sizes'] = [image_size // STRIDE] * 2
    try:
        return instantiate(OmegaConf.create(model), _recursive_=True)
    except HydraException as error:
        raise ValueError(f'the package sam2 cannot build {arch!r}: {error}') from error


def initial_layer_scale(arch: str | dict) -> float:
    """Initial ``gamma`` of the memory encoder's fuser.

    Returns:
        The value; where it is 0 the blocks have no ``gamma``.
    """
    layer = _load_arch(arch)['memory_encoder']['fuser']['layer']
    return float(layer.get('layer_scale_init_value', 1e-6))


def _load_arch(arch: str | dict) -> dict[str, Any]:
    if not isinstance(arch, dict):
        return load_sam2_yaml(arch)
    return sam2_sizes(**check_keys(
        arch, list(inspect.signature(sam2_sizes).parameters), 'model.mask_head.sam2'))


def load_sam2_yaml(name: str) -> dict[str, Any]:
    """Read the ``model`` of a SAM-2 config.

    Args:
        name: of a published model, see :data:`PUBLISHED`, or the path of a YAML file.

    Returns:
        Its structure; nothing is built.

    Raises:
        FileNotFoundError: there is no such name or file.
        ValueError: the file has no ``model``.
    """
    if name in PUBLISHED:
        version, _, size = name.split('_')
        sizes = sam2_sizes(d_model=256, num_memory_layers=4, ffn_dim=2048, **dict(
            dict(bkg_size=(7, 7), window_spec=(8, 4, 14, 7)), **_TRUNKS[size]),
            version=version.removeprefix('sam'))
        return dict(sizes, image_size=1024)
    path = Path(name)
    if path.suffix not in ('.yaml', '.yml') or not path.is_file():
        raise FileNotFoundError(
            f'expected the name of a published SAM-2 ({", ".join(PUBLISHED)}) or a YAML file, got '
            f'{name!r}: there is no file {path}')
    config = OmegaConf.to_container(OmegaConf.load(path))
    if 'model' not in config:
        raise ValueError(f'{path}: expected a SAM-2 config with the key "model", '
                         f'got {sorted(config)}')
    return check_keys(config, ['model'], str(path))['model']


def sam2_sizes(embed_dim: int = 16,
               num_heads: int = 1,
               stages: tuple[int, ...] = (1, 2, 2, 1),
               global_att_blocks: tuple[int, ...] = (4, ),
               window_spec: tuple[int, ...] = (8, 4, 8, 4),
               bkg_size: tuple[int, int] = (4, 4),
               d_model: int = 128,
               mem_dim: int = 64,
               num_memory_layers: int = 2,
               ffn_dim: int = 256,
               dropout: float = 0.1,
               num_fuser_layers: int = 2,
               layer_scale: float = 1e-6,
               version: str = '2') -> dict[str, Any]:
    """Describe a SAM-2 of any size; the defaults make the tiny one.

    Args:
        embed_dim: width of Hiera's first stage; it doubles with each stage.
        num_heads: heads of the first stage; they double likewise.
        stages: blocks per stage.
        global_att_blocks: blocks with global attention, counted over all stages.
        window_spec: side of the attention windows per stage.
        bkg_size: side lengths of the learned background position embedding.
        d_model: width C of neck, memory attention and mask decoder.
        mem_dim: width of stored memories.
        num_memory_layers: layers of the memory attention.
        ffn_dim: hidden width of its feed-forward part.
        dropout: of the memory attention.
        num_fuser_layers: ConvNeXt blocks of the memory encoder.
        layer_scale: their initial ``gamma``.
        version: ``'2'`` or ``'2.1'``, which has weights of its own for the time of object
            pointers and for frames without the object. GLUS's memory needs none of them.

    Returns:
        The structure of a SAM-2 YAML file's ``model``.
    """
    if version not in ('2', '2.1'):
        raise ValueError(f"version of SAM-2 must be '2' or '2.1', got {version!r}")
    modeling, newer = 'sam2.modeling', version == '2.1'
    added = dict(no_obj_embed_spatial=True, proj_tpos_enc_in_obj_ptrs=True,
                 use_signed_tpos_enc_to_obj_ptrs=True) if newer else {}
    rope = dict(
        _target_=f'{modeling}.sam.transformer.RoPEAttention', rope_theta=10000.0,
        embedding_dim=d_model, num_heads=1, downsample_rate=1, dropout=dropout)
    widths = [embed_dim * 2**i for i in reversed(range(len(stages)))]
    return dict(
        _target_=f'{modeling}.sam2_base.SAM2Base',
        image_encoder=dict(
            _target_=f'{modeling}.backbones.image_encoder.ImageEncoder', scalp=1,
            trunk=dict(
                _target_=f'{modeling}.backbones.hieradet.Hiera', embed_dim=embed_dim,
                num_heads=num_heads, stages=list(stages),
                global_att_blocks=list(global_att_blocks), window_spec=list(window_spec),
                window_pos_embed_bkg_spatial_size=list(bkg_size)),
            neck=dict(
                _target_=f'{modeling}.backbones.image_encoder.FpnNeck',
                position_encoding=_sine(d_model), d_model=d_model,
                backbone_channel_list=widths, fpn_top_down_levels=[2, 3],
                fpn_interp_model='nearest')),
        memory_attention=dict(
            _target_=f'{modeling}.memory_attention.MemoryAttention', d_model=d_model,
            pos_enc_at_input=True, num_layers=num_memory_layers,
            layer=dict(
                _target_=f'{modeling}.memory_attention.MemoryAttentionLayer', activation='relu',
                dim_feedforward=ffn_dim, dropout=dropout, pos_enc_at_attn=False, d_model=d_model,
                pos_enc_at_cross_attn_keys=True, pos_enc_at_cross_attn_queries=False,
                self_attention=dict(rope),
                cross_attention=dict(rope, rope_k_repeat=True, kv_in_dim=mem_dim))),
        memory_encoder=dict(
            _target_=f'{modeling}.memory_encoder.MemoryEncoder', out_dim=mem_dim, in_dim=d_model,
            position_encoding=_sine(mem_dim),
            mask_downsampler=dict(
                _target_=f'{modeling}.memory_encoder.MaskDownSampler', kernel_size=3, stride=2,
                padding=1, embed_dim=d_model),
            fuser=dict(
                _target_=f'{modeling}.memory_encoder.Fuser', num_layers=num_fuser_layers,
                layer=dict(
                    _target_=f'{modeling}.memory_encoder.CXBlock', dim=d_model, kernel_size=7,
                    padding=3, layer_scale_init_value=layer_scale, use_dwconv=True))),
        num_maskmem=7, sigmoid_scale_for_mem_enc=20.0, sigmoid_bias_for_mem_enc=-10.0,
        use_mask_input_as_output_without_sam=True, directly_add_no_mem_embed=True,
        use_high_res_features_in_sam=True, multimask_output_in_sam=True,
        iou_prediction_use_sigmoid=True, use_obj_ptrs_in_encoder=True,
        add_tpos_enc_to_obj_ptrs=newer, only_obj_ptrs_in_the_past_for_eval=True,
        pred_obj_scores=True, pred_obj_scores_mlp=True, fixed_no_obj_ptr=True,
        multimask_output_for_tracking=True, use_multimask_token_for_obj_ptr=True,
        multimask_min_pt_num=0, multimask_max_pt_num=1, use_mlp_for_obj_ptr_proj=True,
        compile_image_encoder=False, **added)


def _sine(width: int) -> dict[str, Any]:
    return dict(
        _target_='sam2.modeling.position_encoding.PositionEmbeddingSine', num_pos_feats=width,
        normalize=True, scale=None, temperature=10000)
