"""Qwen2.5-VL and Qwen3-VL as the multimodal LLM of GLUS."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForImageTextToText,
    DynamicCache,
    PreTrainedModel,
    Qwen2_5_VLConfig,
    Qwen3VLConfig,
)

from glus_mm.models.mllms import LoRA
from glus_mm.models.mllms.causal_mllm import (
    CausalMLLM,
    cast_to_layer,
    checkpoint_activations,
)
from glus_mm.models.mllms.layout import Layout
from glus_mm.registry import MODELS
from glus_mm.text.prompt import IMAGE_TOKEN_INDEX, absent_id, get_template, replace_answers
from glus_mm.utils.image import VISION_CROPS
from glus_mm.utils.modules import check_keys, is_trained, set_trainable
from glus_mm.utils.precision import dtype_of
from qwen_vl.mrope import mrope_positions
from qwen_vl.qwen_tokenizer import QwenTokenizer, build_prompt, split_prefix

CONFIGS = dict(qwen2_5_vl=Qwen2_5_VLConfig, qwen3_vl=Qwen3VLConfig)


@MODELS.register_module()
class QwenVLMLLM(CausalMLLM):
    """A video-native MLLM in GLUS's place for LLaVA, with the same heads, losses and caches.

    What differs from LLaVA is the family's own: chat format, positions in three directions
    (:func:`mrope_positions`), a vision tower that merges 2 x 2 patches, and, in Qwen3-VL, features
    of inner layers of the tower that are added to the first layers of the LLM. Each frame is
    an image of one fixed square size, so that a frame has the same number of tokens everywhere.

    Args:
        network: folder or name on the hub with weights of Qwen2.5-VL or Qwen3-VL, or a dict with
            ``model_type`` (``'qwen2_5_vl'``, ``'qwen3_vl'``), ``vision`` and ``text``, sizes as
            transformers names them, for random weights.
        image_size: side P of a frame; a multiple of patch size x merge size (28, 32).
        seg_dim: width C of a seg token; GLUS fills in that of its mask head.
        tokenizer: see :class:`QwenTokenizer`; that of ``network`` by default.
        template: name of the prompt template, whose texts are used.
        vision_crop: how a frame becomes a square, ``'squash'`` or ``'center'``.
        lora: fields of ``LoRA``; None trains the LLM itself.
        trainable: patterns of the parameters to train, None for all that LoRA leaves, an empty
            list for none.
        gradient_checkpointing: recompute the LLM's activations in the backward pass.
        init_cfg: as in MMEngine.

    Raises:
        FileNotFoundError: ``network`` is no folder, and the hub does not give it.
        ValueError: another family, or an ``image_size`` that its patches do not divide.
    """

    def __init__(self,
                 network: str | dict,
                 image_size: int,
                 seg_dim: int,
                 tokenizer: str | None = None,
                 template: str = 'llava_v1',
                 vision_crop: str = 'squash',
                 lora: dict | None = None,
                 trainable: Sequence[str] | None = None,
                 gradient_checkpointing: bool = False,
                 init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        if tokenizer is None and not isinstance(network, str):
            raise ValueError('model.mllm.tokenizer is needed where network is a dict')
        self.tokenizer = QwenTokenizer(tokenizer or network)
        self.template = get_template(template)
        if vision_crop not in VISION_CROPS:
            raise ValueError(f'model.mllm.vision_crop must be one of {VISION_CROPS}, '
                             f'got {vision_crop!r}')
        self.vision_crop = vision_crop
        whole = _load(network) if isinstance(network, str) else _random(network, self.tokenizer)
        if whole.config.model_type not in CONFIGS:
            raise ValueError(f'model.mllm.network must be one of the families {sorted(CONFIGS)}, '
                             f'got {whole.config.model_type!r} in {network!r}')
        self.vision_tower, self.llm = whole.model.visual, whole.model.language_model
        self.image_size = image_size
        self._check_image_size()
        self.lm_head = self._own_head(whole)
        width = self.llm.config.hidden_size
        self.seg_projector = nn.Sequential(
            nn.Linear(width, width), nn.ReLU(), nn.Linear(width, seg_dim))
        for layer in self.llm.layers:
            layer.register_forward_pre_hook(cast_to_layer, with_kwargs=True)
        if gradient_checkpointing:
            checkpoint_activations(self.llm)
        if lora is not None:
            LoRA(**lora).inject(self.llm)
        set_trainable(self, trainable)

    @property
    def precision_parts(self) -> list[nn.Module]:
        """See :attr:`BaseMLLM.precision_parts`; each layer of the LLM is a part of its own."""
        return [self.vision_tower, self.llm.get_input_embeddings(), *self.llm.layers,
                self.llm.norm, self.lm_head, self.seg_projector]

    @property
    def grid(self) -> int:
        """Side of a frame's grid of visual tokens."""
        config = self.vision_tower.config
        return self.image_size // (config.patch_size * config.spatial_merge_size)

    def encode_images(self, imgs: Tensor) -> Tensor:
        """Visual tokens of frames.

        Args:
            imgs: (M, 3, P, P), normalised.

        Returns:
            (M, V, D); with Qwen3-VL (M, V, D * (1 + K)), what the K inner layers add beside it.

        Raises:
            ValueError: the images have another size.
        """
        if imgs.shape[1:] != (3, self.image_size, self.image_size):
            raise ValueError(f'expected vision-tower images (M, 3, {self.image_size}, '
                             f'{self.image_size}) as model.mllm.image_size says, '
                             f'got {tuple(imgs.shape)}')
        tower = self.vision_tower
        patches = self.image_size // tower.config.patch_size
        sizes = torch.tensor([[1, patches, patches]] * len(imgs), device=imgs.device)
        with torch.set_grad_enabled(torch.is_grad_enabled() and is_trained(tower)):
            out = tower(self._patches(imgs.to(dtype_of(tower))), grid_thw=sizes)
        tokens = [out.pooler_output, *getattr(out, 'deepstack_features', ())]
        return torch.cat(tokens, -1).unflatten(0, (len(imgs), -1))

    def prompt(self, expression: str, num_context: int, num_turns: int,
               answers: Sequence[bool] | None = None) -> list[int]:
        """See :meth:`BaseMLLM.prompt`."""
        ids = build_prompt(self.tokenizer, self.template, expression, num_context, num_turns)
        if answers is None:
            return ids
        return replace_answers(ids, answers, self.tokenizer.seg_id,
                               absent_id(self.tokenizer, self.template))

    def split_prefix(self, prompt: list[int], num_context: int) -> int:
        """See :meth:`BaseMLLM.split_prefix`."""
        return split_prefix(prompt, num_context, self.tokenizer)

    def prefill(self, prefix_ids: list[int], visual_tokens: Tensor) -> DynamicCache:
        """See :meth:`BaseMLLM.prefill`; the state also has ``next_position``.

        The position behind the prefix is not its length, as images take up less.
        """
        cache = super().prefill(prefix_ids, visual_tokens)
        images = prefix_ids.count(IMAGE_TOKEN_INDEX)
        cache.next_position = len(prefix_ids) - images + images * self.grid
        return cache

    def _decoder_arguments(self, is_image: Tensor, visual: Tensor, cache: DynamicCache | None,
                           layout: Layout | None) -> dict[str, Any]:
        """Positions, and what inner layers of the tower add to the first layers of the LLM."""
        arguments = super()._decoder_arguments(is_image, visual, cache, layout)
        arguments['position_ids'] = (
            mrope_positions(is_image, self.grid, _start(cache)) if layout is None
            else self._layout_positions(is_image, layout))
        deep = visual.split(self.llm.config.hidden_size, -1)[1:]
        if deep:
            arguments.update(visual_pos_masks=is_image, deepstack_visual_embeds=list(deep))
        return arguments

    def _layout_positions(self, is_image: Tensor, layout: Layout) -> Tensor:
        """Positions (3, G, L) where a sequence holds the rests of several conversations."""
        index = layout.index(int(layout.length.max())).to(is_image.device)
        positions = mrope_positions(is_image.flatten()[index], self.grid)
        inside = torch.arange(index.shape[1], device=index.device) \
            < layout.length.to(index.device)[:, None]
        spread = positions.new_zeros(3, is_image.numel())
        spread[:, index[inside]] = positions[:, inside]
        return spread.unflatten(1, is_image.shape)

    def _patches(self, imgs: Tensor) -> Tensor:
        """Patches (M * patches, 3 * frames * p * p) in the order that the tower expects.

        Patches that are merged follow one another; a still image is repeated in time.
        """
        config = self.vision_tower.config
        p, merge = config.patch_size, config.spatial_merge_size
        grid = self.grid
        blocks = imgs.view(len(imgs), 3, grid, merge, p, grid, merge, p)
        blocks = blocks.permute(0, 2, 5, 3, 6, 1, 4, 7)
        blocks = blocks.unsqueeze(6).expand(*blocks.shape[:6], config.temporal_patch_size, p, p)
        return blocks.reshape(len(imgs) * (grid * merge)**2, -1)

    def _check_image_size(self) -> None:
        config = self.vision_tower.config
        unit = config.patch_size * config.spatial_merge_size
        if self.image_size < unit or self.image_size % unit:
            raise ValueError(f'model.mllm.image_size must be a multiple of {unit} (patch_size x '
                             f'spatial_merge_size), got {self.image_size!r}')

    def _own_head(self, whole: PreTrainedModel) -> nn.Linear:
        """The head with a row for each token; never tied to the embeddings, which train apart."""
        if len(self.tokenizer) > self.llm.config.vocab_size:
            whole.resize_token_embeddings(len(self.tokenizer))
        weight = whole.get_output_embeddings().weight
        head = nn.Linear(weight.shape[1], weight.shape[0], bias=False).to(weight.dtype)
        with torch.no_grad():
            head.weight.copy_(weight)
        return head


def _start(cache: DynamicCache | None) -> int:
    """Position of the first token behind what a cache holds."""
    return getattr(cache, 'next_position', 0)


def _load(name: str) -> PreTrainedModel:
    try:
        # Built without data, to be filled from a whole checkpoint: the sizes are enough.
        if nn.Linear(1, 1).weight.is_meta:
            return AutoModelForImageTextToText.from_config(AutoConfig.from_pretrained(name))
        return AutoModelForImageTextToText.from_pretrained(name, dtype=torch.get_default_dtype())
    except OSError as error:
        raise FileNotFoundError(
            'model.mllm.network: expected a folder with weights of Qwen2.5-VL or Qwen3-VL, or a '
            f'name on the hub that can be reached, got {name!r}: {error}') from error


def _random(network: dict, tokenizer: QwenTokenizer) -> PreTrainedModel:
    """A network of given sizes with random weights."""
    check_keys(network, ('model_type', 'vision', 'text'), 'model.mllm.network')
    family = network.get('model_type')
    if family not in CONFIGS:
        raise ValueError(f'model.mllm.network.model_type must be one of {sorted(CONFIGS)}, '
                         f'got {family!r}')
    text = dict(vocab_size=len(tokenizer), bos_token_id=None, eos_token_id=tokenizer.end_id,
                pad_token_id=tokenizer.pad_id)
    vision = dict(network.get('vision', {}))
    text.update(network.get('text', {}))
    vision.setdefault('out_hidden_size', text.get('hidden_size'))
    config = CONFIGS[family](text_config=text, vision_config=vision)
    return AutoModelForImageTextToText.from_config(config)


