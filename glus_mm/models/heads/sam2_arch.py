"""Build the stock SAM-2 model from a name, a YAML file or a few sizes."""

import inspect
from importlib.resources import files
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import OmegaConf
from sam2.modeling.memory_encoder import CXBlock
from sam2.modeling.sam2_base import SAM2Base

from glus_mm.utils.modules import check_keys

STRIDE = 16
"""Of the lowest-resolution features and the memories."""
_DYNAMIC_MULTIMASK = dict(
    dynamic_multimask_via_stability=True,
    dynamic_multimask_stability_delta=0.05,
    dynamic_multimask_stability_thresh=0.98)


def build_sam2(arch: str | dict, image_size: int, dynamic_multimask: bool = True) -> SAM2Base:
    """Build a SAM-2 with random weights.

    Args:
        arch: the name of a config that ships with the ``sam2`` package (``'sam2_hiera_l'``), the
            path of a YAML file in the same format, or the sizes of :func:`sam2_sizes`.
        image_size: side S of the input, a multiple of 32.
        dynamic_multimask: in eval mode, take the best of mask tokens 1 to 3 where token 0 is not
            stable, as the official code does. A model that never trained these tokens must not.

    Returns:
        The model, unmodified ``sam2`` code.

    Raises:
        FileNotFoundError: there is no such name or file.
        ValueError: ``image_size`` does not fit the strides.
    """
    if image_size % (2 * STRIDE):
        raise ValueError(f'image_size of SAM-2 must be a multiple of {2 * STRIDE}, '
                         f'got {image_size}')
    model = _load_arch(arch)
    model['image_size'] = image_size
    model['sam_mask_decoder_extra_args'] = dict(_DYNAMIC_MULTIMASK) if dynamic_multimask else None
    for attention in ('self_attention', 'cross_attention'):
        # Only the size for which the rotary table is made first; it follows the input anyway.
        model['memory_attention']['layer'][attention]['feat_sizes'] = [image_size // STRIDE] * 2
    return instantiate(OmegaConf.create(model), _recursive_=True)


def initial_layer_scale(arch: str | dict) -> float:
    """Initial ``gamma`` of the memory encoder's fuser.

    Args:
        arch: as for :func:`build_sam2`.

    Returns:
        The value; where it is 0 the blocks have no ``gamma``.
    """
    default = inspect.signature(CXBlock).parameters['layer_scale_init_value'].default
    layer = _load_arch(arch)['memory_encoder']['fuser']['layer']
    return float(layer.get('layer_scale_init_value', default))


def _load_arch(arch: str | dict) -> dict[str, Any]:
    if not isinstance(arch, dict):
        return load_sam2_yaml(arch)
    return sam2_sizes(**check_keys(
        arch, list(inspect.signature(sam2_sizes).parameters), 'model.mask_head.sam2'))


def load_sam2_yaml(name: str) -> dict[str, Any]:
    """Read the ``model`` of a SAM-2 config.

    Args:
        name: of a config that ships with the ``sam2`` package, or the path of a YAML file.

    Returns:
        Its structure; nothing is built.

    Raises:
        FileNotFoundError: there is no such name or file.
        ValueError: the file has no ``model``.
    """
    if name.endswith(('.yaml', '.yml')):
        path = Path(name)
    else:
        family = 'sam2.1' if name.startswith('sam2.1') else 'sam2'
        path = Path(str(files('sam2'))) / 'configs' / family / f'{name}.yaml'
    if not path.is_file():
        raise FileNotFoundError(
            f'expected the name of a config of the sam2 package (such as sam2_hiera_l) or a YAML '
            f'file, got {name!r}: there is no file {path}')
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
               layer_scale: float = 1e-6) -> dict[str, Any]:
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

    Returns:
        The structure of a SAM-2 YAML file's ``model``.
    """
    modeling = 'sam2.modeling'
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
        add_tpos_enc_to_obj_ptrs=False, only_obj_ptrs_in_the_past_for_eval=True,
        pred_obj_scores=True, pred_obj_scores_mlp=True, fixed_no_obj_ptr=True,
        multimask_output_for_tracking=True, use_multimask_token_for_obj_ptr=True,
        multimask_min_pt_num=0, multimask_max_pt_num=1, use_mlp_for_obj_ptr_proj=True,
        compile_image_encoder=False)


def _sine(width: int) -> dict[str, Any]:
    return dict(
        _target_='sam2.modeling.position_encoding.PositionEmbeddingSine', num_pos_feats=width,
        normalize=True, scale=None, temperature=10000)
