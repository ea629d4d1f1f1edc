"""SAM-2 and its successors in transformers, with the interface and the names of the sam2 package.

The ``forward`` of transformers' video models runs under ``inference_mode`` and keeps the video
itself; their parts do neither. :class:`TrackerParts` offers these parts as ``sam2.SAM2Base`` has
them, so that one head drives both packages, and so that weights have the same names in both.
"""

import copy
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from accelerate import init_empty_weights
from torch import Tensor, nn
from torch.func import functional_call

from glus_mm.utils.hub import download, is_hub_name

if TYPE_CHECKING:
    from transformers import Sam2VideoConfig

# transformers' names to those of sam2, one after another.
_NAMES = [(re.compile(pattern), name) for pattern, name in (
    (r'^vision_encoder\.backbone\.', 'image_encoder.trunk.'),
    (r'^vision_encoder\.neck\.convs\.(\d+)\.', r'image_encoder.neck.convs.\1.conv.'),
    (r'^vision_encoder\.', 'image_encoder.'),
    (r'patch_embed\.projection\.', 'patch_embed.proj.'),
    (r'^prompt_encoder\.shared_embedding\.positional_embedding$',
     'sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix'),
    (r'^prompt_encoder\.mask_embed\.conv1\.', 'sam_prompt_encoder.mask_downscaling.0.'),
    (r'^prompt_encoder\.mask_embed\.layer_norm1\.', 'sam_prompt_encoder.mask_downscaling.1.'),
    (r'^prompt_encoder\.mask_embed\.conv2\.', 'sam_prompt_encoder.mask_downscaling.3.'),
    (r'^prompt_encoder\.mask_embed\.layer_norm2\.', 'sam_prompt_encoder.mask_downscaling.4.'),
    (r'^prompt_encoder\.mask_embed\.conv3\.', 'sam_prompt_encoder.mask_downscaling.6.'),
    (r'^prompt_encoder\.', 'sam_prompt_encoder.'),
    (r'^mask_decoder\.upscale_conv1\.', 'mask_decoder.output_upscaling.0.'),
    (r'^mask_decoder\.upscale_layer_norm\.', 'mask_decoder.output_upscaling.1.'),
    (r'^mask_decoder\.upscale_conv2\.', 'mask_decoder.output_upscaling.3.'),
    (r'^mask_decoder\.transformer\.layer_norm_final_attn\.',
     'mask_decoder.transformer.norm_final_attn.'),
    (r'^mask_decoder\.', 'sam_mask_decoder.'),
    (r'^memory_attention\.layer_norm\.', 'memory_attention.norm.'),
    (r'^memory_encoder\.projection\.', 'memory_encoder.out_proj.'),
    (r'^memory_encoder\.feature_projection\.', 'memory_encoder.pix_feat_proj.'),
    (r'^memory_encoder\.memory_fuser\.layers\.(\d+)\.scale$',
     r'memory_encoder.fuser.layers.\1.gamma'),
    (r'^memory_encoder\.memory_fuser\.layers\.(\d+)\.layer_norm\.',
     r'memory_encoder.fuser.layers.\1.norm.'),
    (r'^memory_encoder\.memory_fuser\.', 'memory_encoder.fuser.'),
    (r'\.depthwise_conv\.', '.dwconv.'),
    (r'\.pointwise_conv(\d)\.', r'.pwconv\1.'),
    (r'^memory_encoder\.mask_downsampler\.final_conv\.',
     'memory_encoder.mask_downsampler.encoder.12.'),
    (r'^memory_temporal_positional_encoding$', 'maskmem_tpos_enc'),
    (r'^no_memory_embedding$', 'no_mem_embed'),
    (r'^no_memory_positional_encoding$', 'no_mem_pos_enc'),
    (r'^no_object_pointer$', 'no_obj_ptr'),
    (r'^occlusion_spatial_embedding_parameter$', 'no_obj_embed_spatial'),
    (r'^object_pointer_proj\.', 'obj_ptr_proj.'),
    (r'^temporal_positional_encoding_projection_layer\.', 'obj_ptr_tpos_proj.'),
    (r'\.o_proj\.', '.out_proj.'),
    (r'\.layer_norm(\d)\.', r'.norm\1.'),
)]
_DOWNSAMPLER = re.compile(r'^memory_encoder\.mask_downsampler\.layers\.(\d+)\.(conv|layer_norm)\.')
_MLP = re.compile(r'^(.*\.(?:mlp|output_hypernetworks_mlps\.\d+)|.*(?:iou_prediction_head|'
                  r'pred_obj_score_head|obj_ptr_proj))\.(proj_in|layers\.(\d+)|proj_out)\.')
# Four rows in transformers, one each in sam2.
_POINTS = 'prompt_encoder.point_embed.weight'
# A second copy of what the prompt encoder has.
_COPY = 'shared_image_embedding.positional_embedding'

# Optimizers store their state by position: parameters come in the order in which sam2 has them.
_ORDER = {
    '': ('maskmem_tpos_enc', 'no_mem_embed', 'image_encoder', 'mask_downsample',
         'memory_attention', 'memory_encoder', 'sam_prompt_encoder', 'sam_mask_decoder'),
    'sam_prompt_encoder': ('pe_layer', 'point_embeddings', 'not_a_point_embed',
                           'mask_downscaling', 'no_mask_embed'),
    'sam_mask_decoder': ('transformer', 'iou_token', 'mask_tokens', 'obj_score_token',
                         'output_upscaling', 'conv_s0', 'conv_s1', 'output_hypernetworks_mlps'),
}


def sam2_names(names: list[str]) -> dict[str, str]:
    """Names that weights of a model of transformers have in the ``sam2`` package.

    Args:
        names: keys of the model's ``state_dict``.

    Returns:
        transformers' name to sam2's, but for the points' embeddings, which sam2 has in four
        pieces, and for the copy of the random positions, which it has once.
    """
    found = {}
    for name in names:
        if name in (_POINTS, _COPY):
            continue
        new = name
        for pattern, replacement in _NAMES:
            new = pattern.sub(replacement, new)
        if match := _DOWNSAMPLER.match(new):
            place = 3 * int(match[1]) + (match[2] == 'layer_norm')
            new = f'memory_encoder.mask_downsampler.encoder.{place}.{new[match.end():]}'
        if match := _MLP.match(new):
            # Two layers where nothing lies between the first and the last one.
            middle = name.replace(match[2], 'layers.0') in names
            place = {'proj_in': 0, 'proj_out': 1 + middle}.get(match[2])
            place = int(match[3]) + 1 if place is None else place
            new = f'{match[1]}.layers.{place}.{new[match.end():]}'
        found[name] = new
    return found


def from_transformers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of a ``Sam2VideoModel``, such as ``facebook/sam2.1-hiera-tiny`` has, under the
    names of the ``sam2`` package.

    Args:
        state: its ``state_dict``, or the contents of its ``model.safetensors``.

    Returns:
        The same tensors; the points' embeddings as four views.
    """
    new = {ours: state[name] for name, ours in sam2_names(list(state)).items()}
    new.update({f'sam_prompt_encoder.point_embeddings.{i}.weight': row[None]
                for i, row in enumerate(state[_POINTS])})
    return new


def to_transformers(state: Mapping[str, Tensor], arch: dict[str, Any], image_size: int
                    ) -> dict[str, Tensor]:
    """The way back: weights under the names of ``Sam2VideoModel``.

    Args:
        state: weights under the names of the ``sam2`` package.
        arch: what they are, from :func:`load_sam2_yaml` or :func:`sam2_sizes`.
        image_size: side S of the input.

    Returns:
        The same tensors, and the points' embeddings as one.

    Raises:
        KeyError: a weight is missing.
    """
    from transformers import Sam2VideoModel

    with init_empty_weights(include_buffers=True):
        names = list(Sam2VideoModel(video_config(arch, image_size, True)).state_dict())
    new = {name: state[ours] for name, ours in sam2_names(names).items()}
    new[_POINTS] = torch.cat([
        state[f'sam_prompt_encoder.point_embeddings.{i}.weight'] for i in range(4)])
    new[_COPY] = new['prompt_encoder.shared_embedding.positional_embedding']
    return new


def _plant(root: nn.Module, source: nn.Module, names: Mapping[str, str]
           ) -> list[tuple[str, nn.Module, str]]:
    """Hang weights of a module into another one, under other names.

    Layers whose own names stay the same are shared; of the others the parameters are, and these
    have to be handed to ``source`` when it is called.

    Args:
        root: gets them.
        source: has them.
        names: of the weights in ``source``, and what they are called below ``root``.

    Returns:
        Of each parameter that has to be handed over its name in ``source``, and where it is.
    """
    handed = []
    for name, ours in names.items():
        *path, attr = ours.split('.')
        place, _, own_attr = name.rpartition('.')
        layer = source.get_submodule(place)
        shared = bool(path) and attr == own_attr and next(layer.children(), None) is None
        owner = root
        for i, part in enumerate(path):
            if part not in owner._modules:
                following = path[i + 1] if i + 1 < len(path) else ''
                owner.add_module(part, layer if shared and not following else nn.ModuleList()
                                 if following.isdigit() else nn.Module())
            owner = owner._modules[part]
        if owner is layer:
            continue
        value = getattr(layer, own_attr)
        if isinstance(value, nn.Parameter):
            owner.register_parameter(attr, value)
        else:
            owner.register_buffer(attr, value)
        handed.append((name, owner, attr))
    return handed


class _Part(nn.Module):
    """A part of a model of transformers with the weights' names of sam2.

    Args:
        part: the module. It is no child of this one, its layers are.
        names: of its weights, and what they are called here.
    """

    def __init__(self, part: nn.Module, names: Mapping[str, str]) -> None:
        super().__init__()
        self._part = (part, )
        self._handed = _plant(self, part, names)

    @property
    def source(self) -> nn.Module:
        """The module itself."""
        return self._part[0]

    def run(self, *args: Any, more: Mapping[str, Tensor] | None = None, **kwargs: Any) -> Any:
        """Call the part; ``more`` are weights that it gets besides, by its own names."""
        handed = {name: getattr(owner, attr) for name, owner, attr in self._handed}
        handed.update(more or {})
        if not handed:
            return self.source(*args, **kwargs)
        return functional_call(self.source, handed, args, kwargs)

    def train(self, mode: bool = True) -> '_Part':
        """Reach the modules that are no children, too."""
        self.source.train(mode)
        return super().train(mode)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> '_Part':
        """Move tables that no state dict has; they keep their types."""
        super()._apply(fn, recurse)
        own = set(self.modules())
        for module in self.source.modules():
            if module not in own:
                for name, value in module._buffers.items():
                    if value is not None:
                        module._buffers[name] = value.to(fn(value.new_empty(0)).device)
        return self


class _ImageEncoder(_Part):

    def forward(self, imgs: Tensor) -> dict[str, list[Tensor]]:
        out = self.run(imgs)
        # SAM 3 has a fourth level, of which its tracker makes no use.
        return dict(backbone_fpn=list(out.fpn_hidden_states[:3]),
                    vision_pos_enc=list(out.fpn_position_encoding[:3]))


class _MaskDecoder(_Part):

    @property
    def dynamic_multimask_via_stability(self) -> bool:
        return self.source.dynamic_multimask_via_stability

    def forward(self, image_embeddings: Tensor, image_pe: Tensor, sparse_prompt_embeddings: Tensor,
                dense_prompt_embeddings: Tensor, multimask_output: bool, repeat_image: bool,
                high_res_features: list[Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        masks, scores, tokens, objects = self.run(
            image_embeddings=image_embeddings, image_positional_embeddings=image_pe,
            sparse_prompt_embeddings=sparse_prompt_embeddings[:, None],
            dense_prompt_embeddings=dense_prompt_embeddings, multimask_output=multimask_output,
            high_resolution_features=high_res_features)
        return masks[:, 0], scores[:, 0], tokens[:, 0], objects[:, 0]


class _MemoryEncoder(_Part):

    def position_encoding(self, features: Tensor) -> Tensor:
        # In float32, as sam2 does it.
        part = self.source.position_encoding
        return part(features.shape, features.device, torch.float32)

    def forward(self, pix_feat: Tensor, masks: Tensor, skip_mask_sigmoid: bool = False
                ) -> dict[str, Tensor]:
        features, _ = self.run(pix_feat, masks if skip_mask_sigmoid else masks.sigmoid())
        return dict(vision_features=features)


class _MemoryAttention(_Part):

    def forward(self, curr: list[Tensor], memory: Tensor, curr_pos: list[Tensor],
                memory_pos: Tensor, num_obj_ptr_tokens: int = 0, **kwargs: int) -> Tensor:
        # Its rotary embeddings are those of a batch.
        out = self.run(curr[0], memory, curr_pos[0], memory_pos, num_obj_ptr_tokens, **kwargs)
        return out[0].transpose(0, 1) if out.dim() == 4 else out


class _RandomPositions(nn.Module):
    """The positions of a grid in random frequencies, as sam2's ``PositionEmbeddingRandom``."""

    def forward(self, size: tuple[int, int]) -> Tensor:
        matrix = self.positional_encoding_gaussian_matrix
        y, x = ((torch.arange(n, device=matrix.device, dtype=matrix.dtype) + 0.5) / n
                for n in size)
        places = torch.stack([x.expand(size[0], -1), y[:, None].expand(-1, size[1])], -1)
        angles = 2 * torch.pi * ((2 * places - 1) @ matrix)
        return torch.cat([angles.sin(), angles.cos()], -1).permute(2, 0, 1)


class _PromptEncoder(_Part):

    def __init__(self, part: nn.Module, names: Mapping[str, str]) -> None:
        super().__init__(part, {})
        self.pe_layer = _RandomPositions()
        weight = part.point_embed.weight.detach()
        self.point_embeddings = nn.ModuleList(
            nn.Embedding(1, weight.shape[1], _weight=row[None].clone()) for row in weight)
        self._handed = _plant(self, part, names)
        self.image_embedding_size = part.image_embedding_size

    def forward(self, points: tuple[Tensor, Tensor], boxes: None, masks: None
                ) -> tuple[Tensor, Tensor]:
        coords, labels = points
        weight = torch.cat([point.weight for point in self.point_embeddings])
        sparse, dense = self.run(
            more={'point_embed.weight': weight}, input_points=coords[:, None],
            input_labels=labels[:, None], input_boxes=boxes, input_masks=masks)
        return sparse[:, 0], dense


class TrackerParts(nn.Module):
    """The parts of a video model of transformers as ``sam2.SAM2Base`` has them.

    Args:
        model: a ``Sam2VideoModel`` or one of its successors; its layers become part of this.
        stride: of the features with the lowest resolution.
    """

    def __init__(self, model: nn.Module, stride: int) -> None:
        super().__init__()
        names = sam2_names(list(model.state_dict()))

        def below(prefix: str, ours: str) -> dict[str, str]:
            return {name.removeprefix(prefix): names.pop(name).removeprefix(ours)
                    for name in list(names) if name.startswith(prefix)}

        kinds = dict(
            image_encoder=(_ImageEncoder, 'vision_encoder'),
            memory_attention=(_MemoryAttention, 'memory_attention'),
            memory_encoder=(_MemoryEncoder, 'memory_encoder'),
            sam_prompt_encoder=(_PromptEncoder, 'prompt_encoder'),
            sam_mask_decoder=(_MaskDecoder, 'mask_decoder'),
            spatial_perceiver=(_Part, 'spatial_perceiver'))
        for ours, (kind, theirs) in kinds.items():
            if hasattr(model, theirs):
                self.add_module(ours, kind(getattr(model, theirs), below(f'{theirs}.', f'{ours}.')))
        _plant(self, model, names)
        for name, module in self.named_modules():
            known = _ORDER.get(name, ())
            for held in (module._modules, module._parameters):
                ordered = sorted(held, key=lambda key: (
                    known.index(key) if key in known else len(known),
                    int(key) if key.isdigit() else 0))
                held.update({key: held.pop(key) for key in ordered})
        config = model.config
        self.hidden_dim, self.mem_dim = model.hidden_dim, config.memory_encoder_output_channels
        self.image_size, self.stride = config.image_size, stride
        self.sigmoid_scale_for_mem_enc = config.sigmoid_scale_for_mem_enc
        self.sigmoid_bias_for_mem_enc = config.sigmoid_bias_for_mem_enc

    @property
    def device(self) -> torch.device:
        """Where it is."""
        return self.no_mem_embed.device


def video_config(arch: dict[str, Any], image_size: int, dynamic_multimask: bool
                 ) -> 'Sam2VideoConfig':
    """Config of a ``Sam2VideoModel`` of the sizes that a config of the sam2 package has.

    Args:
        arch: from :func:`load_sam2_yaml` or :func:`sam2_sizes`.
        image_size: side S of the input.
        dynamic_multimask: see :func:`build_sam2`.

    Raises:
        ValueError: a size is one that transformers cannot have.
    """
    from transformers import Sam2VideoConfig

    trunk = dict(dict(
        embed_dim=96, num_heads=1, q_pool=3, stages=(2, 3, 16, 3), window_spec=(8, 4, 14, 7),
        global_att_blocks=(12, 16, 20), window_pos_embed_bkg_spatial_size=(14, 14)),
        **arch['image_encoder']['trunk'])
    neck, attention = arch['image_encoder']['neck'], arch['memory_attention']
    encoder, layer = arch['memory_encoder'], attention['layer']
    width, mem_dim = neck['d_model'], encoder['out_dim']
    if mem_dim != 64 or width == 64:
        raise ValueError('transformers has SAM-2 with memories of width 64 and wider features '
                         'only: expected model.mask_head.sam2.mem_dim=64 below d_model, or '
                         f"backend='sam2', got {mem_dim} and {width}")
    fuser, stages = encoder['fuser'], range(len(trunk['stages']))
    return Sam2VideoConfig(
        image_size=image_size,
        vision_config=dict(
            backbone_config=dict(
                model_type='sam2_hiera_det_model', hidden_size=trunk['embed_dim'],
                image_size=[image_size] * 2, num_attention_heads=trunk['num_heads'],
                window_positional_embedding_background_size=list(
                    trunk['window_pos_embed_bkg_spatial_size']),
                num_query_pool_stages=trunk['q_pool'], blocks_per_stage=list(trunk['stages']),
                embed_dim_per_stage=[trunk['embed_dim'] * 2**i for i in stages],
                num_attention_heads_per_stage=[trunk['num_heads'] * 2**i for i in stages],
                window_size_per_stage=list(trunk['window_spec']),
                global_attention_blocks=list(trunk['global_att_blocks'])),
            backbone_channel_list=list(neck['backbone_channel_list']),
            backbone_feature_sizes=[[image_size // s] * 2 for s in (4, 8, 16)],
            fpn_hidden_size=width, fpn_top_down_levels=list(neck['fpn_top_down_levels'])),
        prompt_encoder_config=dict(hidden_size=width, image_size=image_size, patch_size=16),
        mask_decoder_config=dict(
            hidden_size=width, dynamic_multimask_via_stability=dynamic_multimask),
        num_maskmem=arch['num_maskmem'],
        sigmoid_scale_for_mem_enc=arch['sigmoid_scale_for_mem_enc'],
        sigmoid_bias_for_mem_enc=arch['sigmoid_bias_for_mem_enc'],
        enable_occlusion_spatial_embedding=arch.get('no_obj_embed_spatial', False),
        enable_temporal_pos_encoding_for_object_pointers=arch.get(
            'add_tpos_enc_to_obj_ptrs', False),
        memory_attention_hidden_size=width, memory_attention_num_layers=attention['num_layers'],
        memory_attention_num_attention_heads=layer['cross_attention']['num_heads'],
        memory_attention_downsample_rate=layer['cross_attention']['downsample_rate'],
        memory_attention_feed_forward_hidden_size=layer['dim_feedforward'],
        memory_attention_dropout=layer['dropout'],
        memory_attention_rope_dropout=layer['cross_attention']['dropout'],
        memory_attention_rope_feat_sizes=[image_size // 16] * 2,
        rope_parameters=dict(
            rope_type='axial', rope_theta=float(layer['cross_attention']['rope_theta'])),
        memory_encoder_hidden_size=width, memory_encoder_output_channels=mem_dim,
        mask_downsampler_embed_dim=width, memory_fuser_embed_dim=width,
        memory_fuser_intermediate_dim=4 * width, memory_fuser_num_layers=fuser['num_layers'],
        memory_fuser_layer_scale_init_value=float(
            fuser['layer'].get('layer_scale_init_value', 1e-6)))


def build_parts(arch: dict[str, Any], image_size: int, dynamic_multimask: bool) -> TrackerParts:
    """SAM-2 from transformers' code, with random weights as the sam2 package draws them.

    Args:
        arch: from :func:`load_sam2_yaml` or :func:`sam2_sizes`.
        image_size: side S of the input.
        dynamic_multimask: see :func:`build_sam2`.

    Raises:
        ValueError: a size is one that transformers cannot have.
    """
    from transformers import Sam2VideoModel

    model = Sam2VideoModel(video_config(arch, image_size, dynamic_multimask))
    scale = model.config.memory_fuser_layer_scale_init_value
    # transformers starts all layers with a small standard deviation, sam2 as torch does.
    for module in model.modules():
        if callable(getattr(module, 'reset_parameters', None)):
            module.reset_parameters()
    for name, parameter in model.named_parameters(recurse=True):
        if name.endswith('.scale'):
            nn.init.constant_(parameter, scale)
        elif '.' not in name:
            nn.init.trunc_normal_(parameter, std=0.02)
    return TrackerParts(model, 16)


def load_tracker(kind: str, model: str | dict[str, Any], image_size: int, stride: int,
                 dynamic_multimask: bool) -> TrackerParts:
    """A video model of transformers by its name, with its weights, or by sizes, with random ones.

    Args:
        kind: name of the class in transformers without ``Model``, such as ``'EdgeTamVideo'``.
        model: a folder or a repository on the hub, or arguments of the class's config.
        image_size: side S of the input.
        stride: of the features with the lowest resolution.
        dynamic_multimask: see :func:`build_sam2`.

    Raises:
        ConnectionError: the hub cannot be reached.
        FileNotFoundError: there is no such model, or access to it has to be asked for.
        ValueError: it is for images of another size.
    """
    import transformers

    config_class, model_class = (
        getattr(transformers, f'{kind}{end}') for end in ('Config', 'Model'))
    if isinstance(model, dict):
        # transformers changes what it is given.
        built = model_class(config_class(image_size=image_size, **copy.deepcopy(model)))
    else:
        folder = model if not is_hub_name(model) else download(
            model, ['*.json', '*.safetensors'],
            f'Where there is a network, run "hf download {model} --local-dir DIR", and give DIR '
            'as model.mask_head.model.')
        if not Path(folder).is_dir():
            raise FileNotFoundError('expected a folder or a repository on the hub in '
                                    f'model.mask_head.model, got nothing there: {model}')
        built = model_class.from_pretrained(folder)
    if built.config.image_size != image_size:
        raise ValueError(f'{model} is for images of side {built.config.image_size}: expected that '
                         f'as model.mask_head.image_size, got {image_size}')
    built.mask_decoder.dynamic_multimask_via_stability = dynamic_multimask
    return TrackerParts(built, stride)
