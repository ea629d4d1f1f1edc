"""LLaVA v1 as LISA and GLUS use it: CLIP vision tower, linear projector, LLaMA, seg projector."""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence
from transformers import CLIPVisionConfig, CLIPVisionModel, DynamicCache, LlamaConfig, LlamaModel

from glus_mm.models.mllms.base_mllm import BaseMLLM, SegTokens
from glus_mm.models.mllms.lora import LoRA
from glus_mm.models.mllms.prompt import (
    IGNORE_INDEX,
    IMAGE_TOKEN_INDEX,
    build_prompt,
    get_template,
    split_prefix,
)
from glus_mm.models.mllms.shared_prefix import SharedPrefix, common_prefix, lay_out
from glus_mm.models.mllms.tokenizer import SegTokenizer
from glus_mm.registry import MODELS
from glus_mm.utils.image import VISION_CROPS
from glus_mm.utils.modules import check_keys, is_trained, set_trainable
from glus_mm.utils.precision import dtype_of

POOLINGS = ('raster4', '2x2', 'none')
# Implementations of attention that take any mask.
MASKED_ATTENTION = ('sdpa', 'eager')


@MODELS.register_module()
class LlavaMLLM(BaseMLLM):
    """LLaVA v1 with a ``[SEG]`` token.

    The seg token is the hidden state of the last layer, after the final norm, at the position that
    predicts ``[SEG]``, through Linear, ReLU, Linear (section B.1 of the paper says the
    penultimate layer; the official code does what is done here).

    Sequences are padded on the right and no padding mask is given: attention is causal, so that
    padding never reaches a position that is read.

    Its parts may have different floating types (``model.dtype``): each gets its input in its own.

    Args:
        vision_tower: sizes, as ``CLIPVisionConfig`` names them.
        llm: sizes, as ``LlamaConfig`` names them. The vocabulary follows the tokenizer; a larger
            ``vocab_size`` is that of a checkpoint whose embeddings are padded. The rows beyond
            the tokenizer have no text, and none of them is ``[SEG]``.
        seg_dim: width C of a seg token; GLUS fills in that of its mask head.
        tokenizer: ``'tiny'`` (ships with the package) or a folder, see :class:`SegTokenizer`.
        template: name of the prompt template.
        pooling: ``'raster4'`` averages 4 tokens that follow one another in raster order, as the
            official code does, ``'2x2'`` squares of four patches, ``'none'`` keeps all.
        vision_select_layer: index into the tower's hidden states, of which there is one more than
            layers: the first is what the embeddings give.
        vision_crop: ``'center'`` (CLIP's and the official way) or ``'squash'``.
        lora: fields of :class:`LoRA`; None trains the LLM itself.
        trainable: patterns of the parameters to train, None for all that LoRA leaves, an empty
            list for none.
        gradient_checkpointing: recompute the LLM's activations in the backward pass.
        init_cfg: as in MMEngine.
    """

    def __init__(self,
                 vision_tower: dict,
                 llm: dict,
                 seg_dim: int,
                 tokenizer: str = 'tiny',
                 template: str = 'llava_v1',
                 pooling: str = 'raster4',
                 vision_select_layer: int = -2,
                 vision_crop: str = 'center',
                 lora: dict | None = None,
                 trainable: Sequence[str] | None = None,
                 gradient_checkpointing: bool = False,
                 init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        if pooling not in POOLINGS:
            raise ValueError(f'model.mllm.pooling must be one of {POOLINGS}, got {pooling!r}')
        if vision_crop not in VISION_CROPS:
            raise ValueError(f'model.mllm.vision_crop must be one of {VISION_CROPS}, '
                             f'got {vision_crop!r}')
        self.tokenizer = SegTokenizer.from_pretrained(tokenizer)
        self.template = get_template(template)
        self.pooling = pooling
        self.vision_select_layer = vision_select_layer
        self.vision_crop = vision_crop
        self.vision_tower = CLIPVisionModel(_hf_config(CLIPVisionConfig, vision_tower,
                                                       'model.mllm.vision_tower'))
        self._check_pooling()
        self._check_select_layer()
        config = _hf_config(LlamaConfig, self._with_token_ids(llm), 'model.mllm.llm')
        self.llm = LlamaModel(config)
        for layer in self.llm.layers:
            layer.register_forward_pre_hook(_cast_to_layer, with_kwargs=True)
        width = config.hidden_size
        self.lm_head = nn.Linear(width, config.vocab_size, bias=False)
        nn.init.normal_(self.lm_head.weight, std=config.initializer_range)
        self.projector = nn.Linear(self.vision_tower.config.hidden_size, width)
        self.seg_projector = nn.Sequential(
            nn.Linear(width, width), nn.ReLU(), nn.Linear(width, seg_dim))
        if gradient_checkpointing:
            self.llm.gradient_checkpointing_enable()
        if lora is not None:
            LoRA(**lora).inject(self.llm)
        set_trainable(self, trainable)

    @property
    def image_size(self) -> int:
        """Side P of the vision tower's input."""
        return self.vision_tower.config.image_size

    @property
    def precision_parts(self) -> list[nn.Module]:
        """See :attr:`BaseMLLM.precision_parts`; each layer of the LLM is a part of its own."""
        return [self.vision_tower, self.projector, self.llm.get_input_embeddings(),
                *self.llm.layers, self.llm.norm, self.lm_head, self.seg_projector]

    def encode_images(self, imgs: Tensor) -> Tensor:
        """Visual tokens of frames: tower, pooling, then projector.

        Args:
            imgs: (M, 3, P, P), normalised.

        Returns:
            (M, V, D).

        Raises:
            ValueError: the images have another size.
        """
        pooled = self._pool(self._patch_tokens(imgs))
        return self.projector(pooled.to(dtype_of(self.projector)))

    def _patch_tokens(self, imgs: Tensor) -> Tensor:
        """Features of all patches (M, patches, tower's width) of frames (M, 3, P, P)."""
        if imgs.shape[1:] != (3, self.image_size, self.image_size):
            raise ValueError(f'expected vision-tower images (M, 3, {self.image_size}, '
                             f'{self.image_size}) as model.mllm.vision_tower.image_size says, '
                             f'got {tuple(imgs.shape)}')
        with torch.set_grad_enabled(torch.is_grad_enabled() and is_trained(self.vision_tower)):
            states = self.vision_tower(
                imgs.to(dtype_of(self.vision_tower)), output_hidden_states=True).hidden_states
        return states[self.vision_select_layer][:, 1:]

    def _with_token_ids(self, llm: dict) -> dict:
        """``llm`` with what follows the tokenizer; refuses values that contradict it."""
        derived = dict(pad_token_id=self.tokenizer.pad_id, bos_token_id=self.tokenizer.bos_id,
                       eos_token_id=self.tokenizer.eos_id)
        for key in sorted(set(derived) & set(llm)):
            if llm[key] != derived[key]:
                raise ValueError(f'model.mllm.llm.{key} follows the tokenizer, which has '
                                 f'{derived[key]}, got {llm[key]!r}')
        size = llm.get('vocab_size', len(self.tokenizer))
        if not isinstance(size, int) or size < len(self.tokenizer):
            raise ValueError(f'model.mllm.llm.vocab_size follows the tokenizer, which has '
                             f'{len(self.tokenizer)} tokens, and may only be larger, got {size!r}')
        return dict(llm, **derived, vocab_size=size)

    def _check_select_layer(self) -> None:
        count = self.vision_tower.config.num_hidden_layers + 1
        layer = self.vision_select_layer
        if not isinstance(layer, int) or not -count <= layer < count:
            raise ValueError(f'model.mllm.vision_select_layer must be in {-count}..{count - 1}, '
                             f'as the vision tower has {count} hidden states, got {layer!r}')

    def _check_pooling(self) -> None:
        """Refuse a pooling that would drop patches at the end."""
        patch = self.vision_tower.config.patch_size
        side = self.image_size // patch
        # Four tokens in a row of the raster and a square of patches alike need an even side.
        if self.image_size % patch or (self.pooling != 'none' and side % 2):
            raise ValueError(
                f'model.mllm.pooling={self.pooling!r} does not divide the patches of '
                f'model.mllm.vision_tower: image_size {self.image_size}, patch_size {patch}')

    def _pool(self, tokens: Tensor) -> Tensor:
        if self.pooling == 'none':
            return tokens
        tokens = tokens.transpose(1, 2)
        if self.pooling == 'raster4':
            return F.avg_pool1d(tokens, 4).transpose(1, 2)
        side = self.image_size // self.vision_tower.config.patch_size
        return F.avg_pool2d(tokens.unflatten(2, (side, side)), 2).flatten(2).transpose(1, 2)

    def forward(self, input_ids: Sequence[Tensor], labels: Sequence[Tensor],
                visual_tokens: Sequence[Tensor], ce_target: str = 'seg',
                all_logits: bool = False, groups: Sequence[int] | None = None
                ) -> tuple[SegTokens, Tensor, Tensor]:
        """See :meth:`BaseMLLM.forward`."""
        per_image = visual_tokens[0].shape[1]
        ids = self._pad([_expand(i, i, per_image, IMAGE_TOKEN_INDEX) for i in input_ids], 0)
        targets = self._pad([_expand(i, label, per_image, IGNORE_INDEX)
                             for i, label in zip(input_ids, labels)], IGNORE_INDEX)
        next_is_seg = ids[:, 1:] == self.tokenizer.seg_id
        counts = next_is_seg.sum(1)
        if counts.min() != counts.max():
            raise ValueError('expected conversations with equally many [SEG], '
                             f'got {counts.tolist()}')
        hidden = self._conversation_states(input_ids, visual_tokens, groups)[:, :-1]
        tokens = self._project_seg(hidden[next_is_seg]).unflatten(0, (len(input_ids), -1))
        targets = targets[:, 1:]
        counted = next_is_seg if ce_target == 'seg' else targets != IGNORE_INDEX
        if all_logits:
            logits = self._token_logits(hidden)[counted]
        else:
            logits = self._token_logits(hidden[counted])
        return SegTokens(tokens), logits, targets[counted]

    def prompt(self, expression: str, num_context: int, num_turns: int) -> list[int]:
        """See :meth:`BaseMLLM.prompt`."""
        return build_prompt(self.tokenizer, self.template, expression, num_context, num_turns)

    def split_prefix(self, prompt: list[int], num_context: int) -> int:
        """See :meth:`BaseMLLM.split_prefix`."""
        return split_prefix(prompt, num_context, self.tokenizer)

    def prefill(self, prefix_ids: list[int], visual_tokens: Tensor) -> DynamicCache:
        """See :meth:`BaseMLLM.prefill`; the state is the keys and values (1, heads, L, D/heads)."""
        cache = DynamicCache()
        self._run([torch.tensor(prefix_ids)], [visual_tokens], cache)
        return cache

    def next_seg_tokens(self, input_ids: Sequence[list[int]], visual_tokens: Tensor,
                        prefix: DynamicCache | None = None) -> SegTokens:
        """See :meth:`BaseMLLM.next_seg_tokens`; logits are made for one position only."""
        ids = [torch.tensor(i) for i in input_ids]
        if prefix is not None:
            prefix = copy.deepcopy(prefix)
            prefix.batch_repeat_interleave(len(ids))
        hidden = self._run(ids, [visual_tokens] * len(ids), prefix)
        last = [_expanded_length(i, visual_tokens.shape[1]) - 1 for i in ids]
        hidden = hidden[torch.arange(len(ids)), torch.tensor(last)]
        is_seg = self._token_logits(hidden).argmax(-1) == self.tokenizer.seg_id
        return SegTokens(self._project_seg(hidden), is_seg)

    def _token_logits(self, hidden: Tensor) -> Tensor:
        return self.lm_head(hidden.to(dtype_of(self.lm_head)))

    def _project_seg(self, hidden: Tensor) -> Tensor:
        return self.seg_projector(hidden.to(dtype_of(self.seg_projector)))

    def _conversation_states(self, input_ids: Sequence[Tensor], visual_tokens: Sequence[Tensor],
                             groups: Sequence[int] | None) -> Tensor:
        """Hidden states (N, L, D) of whole conversations, prefixes computed once if it pays."""
        per_image = visual_tokens[0].shape[1]
        lengths = [_expanded_length(ids, per_image) for ids in input_ids]
        if groups is None or self.llm.config._attn_implementation not in MASKED_ATTENTION:
            return self._run(input_ids, visual_tokens)
        number = {group: g for g, group in enumerate(dict.fromkeys(groups))}
        members = [[n for n, group in enumerate(groups) if number[group] == g]
                   for g in range(len(number))]
        shared = [common_prefix([input_ids[n] for n in some]) if len(some) > 1 else 0
                  for some in members]
        prefixes = [_expanded_length(ids[:shared[number[group]]], per_image)
                    for ids, group in zip(input_ids, groups)]
        layout = lay_out(lengths, prefixes, [number[group] for group in groups])
        if layout.size >= len(lengths) * max(lengths):
            return self._run(input_ids, visual_tokens)
        rows, visual = [], []
        for some, cut in zip(members, shared):
            first = input_ids[some[0]][:cut]
            rows.append(torch.cat([first, *(input_ids[n][cut:] for n in some)]))
            seen = int((first == IMAGE_TOKEN_INDEX).sum())
            visual.append(torch.cat([visual_tokens[some[0]][:seen],
                                     *(visual_tokens[n][seen:] for n in some)]))
        hidden = self._run(rows, visual, layout=layout)
        index = layout.index(max(lengths)).to(hidden.device)
        return hidden.flatten(0, 1)[index]

    def _layout_arguments(self, layout: SharedPrefix) -> dict[str, Tensor]:
        """Mask and positions for the LLM."""
        device = self.lm_head.weight.device
        mask = layout.mask().to(device)
        if self.llm.config._attn_implementation == 'eager':  # which adds its mask to the scores
            mask = torch.zeros(mask.shape, device=device).masked_fill(
                ~mask, torch.finfo(torch.float32).min)
        return dict(attention_mask=mask, position_ids=layout.positions.to(device))

    def _run(self, input_ids: Sequence[Tensor], visual_tokens: Sequence[Tensor],
             cache: DynamicCache | None = None, layout: SharedPrefix | None = None) -> Tensor:
        """Hidden states (N, L, D) after the final norm; ``cache`` is read and extended."""
        per_image = visual_tokens[0].shape[1]
        ids = self._pad([_expand(i, i, per_image, IMAGE_TOKEN_INDEX) for i in input_ids],
                        self.tokenizer.pad_id)
        is_image = ids == IMAGE_TOKEN_INDEX
        visual = torch.cat([tokens.flatten(0, 1) for tokens in visual_tokens])
        if int(is_image.sum()) != len(visual):
            raise ValueError(f'expected {len(visual) // per_image} image places in the '
                             f'conversations, got {int(is_image.sum()) // per_image}')
        embeds = self.llm.get_input_embeddings()(ids.masked_fill(is_image, 0))
        embeds = embeds.to(dtype_of(self.llm.layers[0]))
        embeds = embeds.masked_scatter(is_image[..., None], visual.to(embeds.dtype))
        return self.llm(
            inputs_embeds=embeds, past_key_values=cache, use_cache=cache is not None,
            **({} if layout is None else self._layout_arguments(layout))).last_hidden_state

    def _pad(self, rows: Sequence[Tensor], value: int) -> Tensor:
        padded = pad_sequence(rows, batch_first=True, padding_value=value)
        return padded.to(self.lm_head.weight.device)


def _cast_to_layer(layer: nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict]:
    """Hand a layer of the LLM its input in its own type; its neighbour may have another one."""
    dtype = dtype_of(layer)
    rotary = tuple(table.to(dtype) for table in kwargs['position_embeddings'])
    return (args[0].to(dtype), *args[1:]), dict(kwargs, position_embeddings=rotary)


def _expand(ids: Tensor, values: Tensor, per_image: int, fill: int) -> Tensor:
    """Repeat each image place of ``ids`` (L) ``per_image`` times; ``values`` (L) follow."""
    is_image = ids == IMAGE_TOKEN_INDEX
    values = values.masked_fill(is_image, fill)
    return values.repeat_interleave(torch.where(is_image, per_image, 1))


def _expanded_length(ids: Tensor, per_image: int) -> int:
    return len(ids) + int((ids == IMAGE_TOKEN_INDEX).sum()) * (per_image - 1)


def _hf_config(config_class: type, values: dict, where: str):
    """Build a transformers config; unlike the class itself, refuse keys that it does not know."""
    known = set(config_class().to_dict()) | {'attn_implementation'}
    return config_class(**{str(k): v for k, v in check_keys(values, sorted(known), where).items()})
