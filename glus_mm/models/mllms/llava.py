"""LLaVA v1 as LISA and GLUS use it: CLIP vision tower, linear projector, LLaMA, seg projector."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPVisionConfig, CLIPVisionModel, LlamaConfig, LlamaModel
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from glus_mm.models.mllms.base_mllm import ConversationTrace
from glus_mm.models.mllms.causal_mllm import (
    CausalMLLM,
    LoRA,
    cast_to_layer,
    checkpoint_activations,
    hf_config,
)
from glus_mm.registry import MODELS
from glus_mm.text.prompt import get_template, load_tokenizer
from glus_mm.utils.checked import checked
from glus_mm.utils.image import VISION_CROPS
from glus_mm.utils.modules import is_trained, set_trainable
from glus_mm.utils.precision import dtype_of, run_in_own_type

POOLINGS = ('raster4', '2x2', 'none')


@MODELS.register_module()
class LlavaMLLM(CausalMLLM):
    """LLaVA v1 with a ``[SEG]`` token.

    The seg token is the hidden state of the last layer, after the final norm, at the position that
    predicts ``[SEG]``, through Linear, ReLU, Linear (section B.1 of the paper says the
    penultimate layer; the official code does what is done here).

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

    Attributes:
        image_size (int): side P of the vision tower's input.
        tokens_per_image (int): visual tokens V of a frame.
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
        checked(POOLINGS, 'model.mllm.', pooling=pooling)
        checked(VISION_CROPS, 'model.mllm.', vision_crop=vision_crop)
        self.template = get_template(template)
        self.tokenizer = load_tokenizer(tokenizer, self.template)
        self.pooling = pooling
        self.vision_select_layer = vision_select_layer
        self.vision_crop = vision_crop
        self.vision_tower = CLIPVisionModel(hf_config(CLIPVisionConfig, vision_tower,
                                                      'model.mllm.vision_tower'))
        self.image_size = self.vision_tower.config.image_size
        patch = self.vision_tower.config.patch_size
        side = self.image_size // patch
        # Patches at the end must not be dropped. Four tokens in a row of the raster and a square of
        # patches alike need an even side.
        if self.image_size % patch or (pooling != 'none' and side % 2):
            raise ValueError(
                f'model.mllm.pooling={pooling!r} does not divide the patches of '
                f'model.mllm.vision_tower: image_size {self.image_size}, patch_size {patch}')
        self.tokens_per_image = side**2 if pooling == 'none' else side**2 // 4
        count = self.vision_tower.config.num_hidden_layers + 1
        if not isinstance(vision_select_layer, int) or not -count <= vision_select_layer < count:
            raise ValueError(f'model.mllm.vision_select_layer must be in {-count}..{count - 1}, '
                             f'as the vision tower has {count} hidden states, got '
                             f'{vision_select_layer!r}')
        config = hf_config(LlamaConfig, self._with_token_ids(llm), 'model.mllm.llm')
        self.llm = LlamaModel(config)
        for layer in self.llm.layers:
            layer.register_forward_pre_hook(cast_to_layer, with_kwargs=True)
        width = config.hidden_size
        self.lm_head = nn.Linear(width, config.vocab_size, bias=False)
        nn.init.normal_(self.lm_head.weight, std=config.initializer_range)
        self.projector = nn.Linear(self.vision_tower.config.hidden_size, width)
        self.seg_projector = nn.Sequential(
            nn.Linear(width, width), nn.ReLU(), nn.Linear(width, seg_dim))
        if gradient_checkpointing:
            checkpoint_activations(self.llm)
        if lora is not None:
            LoRA(**lora).inject(self.llm)
        set_trainable(self, trainable)

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
        return run_in_own_type(self.projector, self._pool(self._patch_tokens(imgs)))

    def attention(self, layer: int, trace: ConversationTrace, rows: Sequence[int],
                  queries: Sequence[int], keys: Sequence[int]) -> Tensor:
        """See :meth:`BaseMLLM.attention`."""
        module = self.llm.layers[layer]
        attention, width = module.self_attn, module.self_attn.head_dim
        states = module.input_layernorm(trace.states[layer])
        query, key = (part(states).unflatten(-1, (-1, width)).transpose(0, 1)
                      for part in (attention.q_proj, attention.k_proj))  # (heads, P, width)
        key = key.repeat_interleave(len(query) // len(key), dim=0)
        positions = torch.arange(trace.index.shape[1], device=states.device)
        cos, sin = (table[0] for table in self.llm.rotary_emb(states, positions[None]))
        rows, at, starts = (torch.as_tensor(some) for some in (rows, queries, keys))
        found = states.new_empty(len(rows), len(query), trace.per_image)
        parts = []
        for row in rows.unique():
            mine = (rows == row).nonzero()[:, 0]
            own, place = trace.index[row], at[mine]
            asked, _ = apply_rotary_pos_emb(
                query[:, own[place]], query[:, own[place]], cos[place], sin[place], 0)
            _, given = apply_rotary_pos_emb(key[:, own], key[:, own], cos, sin, 0)
            logits = asked @ given.transpose(1, 2) * attention.scaling
            later = positions > place.to(positions.device)[:, None]
            logits = logits.masked_fill(later, float('-inf')).log_softmax(-1)
            image = starts[mine][:, None] + torch.arange(trace.per_image)
            parts.append((mine, logits.gather(
                2, image.to(logits.device).expand(len(logits), -1, -1)).transpose(0, 1)))
        return found.index_copy(0, torch.cat([mine for mine, _ in parts]).to(states.device),
                                torch.cat([part for _, part in parts]))

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

    def _pool(self, tokens: Tensor) -> Tensor:
        if self.pooling == 'none':
            return tokens
        tokens = tokens.transpose(1, 2)
        if self.pooling == 'raster4':
            return F.avg_pool1d(tokens, 4).transpose(1, 2)
        side = round(tokens.shape[2]**0.5)
        return F.avg_pool2d(tokens.unflatten(2, (side, side)), 2).flatten(2).transpose(1, 2)
