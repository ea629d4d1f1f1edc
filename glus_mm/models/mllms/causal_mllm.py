"""An MLLM whose language model is causal: conversations, prefixes and windows, the same for all."""

import functools
import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import DynamicCache

from glus_mm.models.mllms.base_mllm import BaseMLLM, SegTokens
from glus_mm.models.mllms.prefix_cache import branches
from glus_mm.models.mllms.shared_prefix import SharedPrefix, common_prefix, lay_out
from glus_mm.models.mllms.turns import Turns, lay_out_turns
from glus_mm.text.prompt import IGNORE_INDEX, IMAGE_TOKEN_INDEX, build_prompt, split_prefix
from glus_mm.utils.modules import check_keys
from glus_mm.utils.precision import dtype_of

# Implementations of attention that take any mask.
MASKED_ATTENTION = ('sdpa', 'eager')


class CausalMLLM(BaseMLLM):
    """What families have in common whose LLM is a causal decoder of transformers.

    A family builds the parts below and turns frames into visual tokens. Sequences are padded on the
    right and no padding mask is given: attention is causal, so that padding never reaches a
    position that is read.

    Attributes:
        tokenizer: with ``seg_id`` and ``pad_id``.
        template: of the prompts.
        llm (nn.Module): the decoder without head; its output has ``last_hidden_state``.
        lm_head (nn.Module): hidden states to the vocabulary.
        seg_projector (nn.Module): hidden states (D) to seg tokens (C).
    """

    def forward(self, input_ids: Sequence[Tensor], labels: Sequence[Tensor],
                visual_tokens: Sequence[Tensor], ce_target: str | Sequence[str] = 'seg',
                all_logits: bool = False, groups: Sequence[int] | None = None
                ) -> tuple[SegTokens, Tensor, Tensor]:
        """See :meth:`BaseMLLM.forward`."""
        per_image = visual_tokens[0].shape[1]
        ids = self._pad([_expand(i, i, per_image, IMAGE_TOKEN_INDEX) for i in input_ids], 0)
        targets = self._pad([_expand(i, label, per_image, IGNORE_INDEX)
                             for i, label in zip(input_ids, labels)], IGNORE_INDEX)
        next_is_seg = ids[:, 1:] == self.tokenizer.seg_id
        counts = next_is_seg.sum(1).tolist()
        if len({*counts} - {0}) > 1:
            raise ValueError(f'expected conversations with equally many [SEG], got {counts}')
        hidden = self._conversation_states(input_ids, visual_tokens, groups)[:, :-1]
        tokens = self._project_seg(hidden[next_is_seg])
        tokens = tokens.view(sum(map(bool, counts)), max(counts), tokens.shape[-1])
        targets = targets[:, 1:]
        if isinstance(ce_target, str):
            ce_target = [ce_target] * len(input_ids)
        whole = torch.tensor([target == 'answer' for target in ce_target], device=targets.device)
        counted = torch.where(whole[:, None], targets != IGNORE_INDEX, next_is_seg)
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
        """See :meth:`BaseMLLM.next_seg_tokens`; logits are made for one position only.

        What the prompts have in common is run once: behind the prefix, the first query frame.
        """
        ids = [torch.tensor(i) for i in input_ids]
        ids, visual_tokens, prefix = self._run_start_once(ids, visual_tokens, prefix)
        hidden = self._run(ids, [visual_tokens] * len(ids), branches(prefix, len(ids)))
        last = [_expanded_length(i, visual_tokens.shape[1]) - 1 for i in ids]
        return self._predict(hidden[torch.arange(len(ids)), torch.tensor(last)])

    def seg_tokens_of_turns(self, input_ids: Sequence[Sequence[list[int]]],
                            visual_tokens: Tensor, prefix: DynamicCache | None = None
                            ) -> SegTokens:
        """See :meth:`BaseMLLM.seg_tokens_of_turns`; all turns are run as one sequence."""
        if (self.llm.config._attn_implementation not in MASKED_ATTENTION
                or len(input_ids[0]) < 2 or not self._counts_positions):
            return super().seg_tokens_of_turns(input_ids, visual_tokens, prefix)
        per_image, seen = visual_tokens.shape[1], 0 if prefix is None else prefix.get_seq_length()
        rows = [[torch.tensor(prompt) for prompt in prompts] for prompts in input_ids]
        layout = lay_out_turns([
            ([common_prefix([prompt, prompts[-1]]) for prompt in prompts], prompts)
            for prompts in rows], lambda ids: _expanded_length(ids, per_image), seen)
        ids = [torch.cat([prompts[-1], *(prompt[common_prefix([prompt, prompts[-1]]):]
                                         for prompt in prompts[:-1])]) for prompts in rows]
        hidden = self._run(ids, [visual_tokens] * len(ids), branches(prefix, len(ids)), layout)
        return self._predict(hidden[torch.arange(len(ids))[:, None], layout.last])

    def seg_tokens_from_scratch(self, input_ids: Sequence[list[int]], imgs: Tensor) -> SegTokens:
        """See :meth:`BaseMLLM.seg_tokens_from_scratch`: also logits at every position."""
        visual_tokens = self.encode_images(imgs)
        ids = [torch.tensor(i) for i in input_ids]
        hidden = self._run(ids, [visual_tokens] * len(ids))
        last = [_expanded_length(i, visual_tokens.shape[1]) - 1 for i in ids]
        rows, last = torch.arange(len(ids)), torch.tensor(last)
        is_seg = self._token_logits(hidden)[rows, last].argmax(-1) == self.tokenizer.seg_id
        return SegTokens(self._project_seg(hidden[rows, last]), is_seg)

    def _run_start_once(self, ids: list[Tensor], visual_tokens: Tensor,
                        prefix: DynamicCache | None
                        ) -> tuple[list[Tensor], Tensor, DynamicCache | None]:
        """Run what several prompts start with, on top of the prefix; gives what is left."""
        if len(ids) < 2 or not self._counts_positions:
            return ids, visual_tokens, prefix
        cut = min(common_prefix(ids), min(map(len, ids)) - 1)
        frames = int((ids[0][:cut] == IMAGE_TOKEN_INDEX).sum())
        if not frames:
            return ids, visual_tokens, prefix
        start = branches(prefix, 1) or DynamicCache()
        self._run([ids[0][:cut]], [visual_tokens[:frames]], start)
        return [i[cut:] for i in ids], visual_tokens[frames:], start

    @property
    def _counts_positions(self) -> bool:
        """Whether the positions of tokens are a plain count, so that any layout has them."""
        return type(self)._decoder_arguments is CausalMLLM._decoder_arguments

    def _predict(self, hidden: Tensor) -> SegTokens:
        """Seg tokens of states (..., D) that predict a token."""
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

    def _layout_arguments(self, layout: SharedPrefix | Turns) -> dict[str, Tensor]:
        """Mask and positions for the LLM."""
        device = self.lm_head.weight.device
        mask = layout.mask().to(device)
        if self.llm.config._attn_implementation == 'eager':  # which adds its mask to the scores
            mask = torch.zeros(mask.shape, device=device).masked_fill(
                ~mask, torch.finfo(torch.float32).min)
        return dict(attention_mask=mask, position_ids=layout.positions.to(device))

    def _run(self, input_ids: Sequence[Tensor], visual_tokens: Sequence[Tensor],
             cache: DynamicCache | None = None,
             layout: SharedPrefix | Turns | None = None) -> Tensor:
        """Hidden states (N, L, D) after the final norm; ``cache`` is read and extended."""
        per_image = visual_tokens[0].shape[1]
        ids = self._pad([_expand(i, i, per_image, IMAGE_TOKEN_INDEX) for i in input_ids],
                        self.tokenizer.pad_id)
        is_image = ids == IMAGE_TOKEN_INDEX
        visual = torch.cat([tokens.flatten(0, 1) for tokens in visual_tokens])
        if int(is_image.sum()) != len(visual):
            raise ValueError(f'expected {len(visual) // per_image} image places in the '
                             f'conversations, got {int(is_image.sum()) // per_image}')
        embeds = self._embed(ids.masked_fill(is_image, 0), is_image, visual)
        return self.llm(
            inputs_embeds=embeds, use_cache=cache is not None,
            **{cache_argument(type(self.llm)): cache},
            **self._decoder_arguments(is_image, visual, cache, layout)).last_hidden_state

    def _embed(self, ids: Tensor, is_image: Tensor, visual: Tensor) -> Tensor:
        """Input of the LLM (N, L, D).

        Args:
            ids: (N, L), any id where an image stands.
            is_image: bool (N, L).
            visual: its tokens in order (positions, D).
        """
        embeds = self.llm.get_input_embeddings()(ids).to(dtype_of(self.llm.layers[0]))
        return embeds.masked_scatter(is_image[..., None], visual.to(embeds.dtype))

    def _decoder_arguments(self, is_image: Tensor, visual: Tensor, cache: DynamicCache | None,
                           layout: SharedPrefix | Turns | None) -> dict[str, Any]:
        """More arguments of the LLM; a family whose positions are no plain count overrides this."""
        return {} if layout is None else self._layout_arguments(layout)

    def _pad(self, rows: Sequence[Tensor], value: int) -> Tensor:
        padded = pad_sequence(rows, batch_first=True, padding_value=value)
        return padded.to(self.lm_head.weight.device)


def cast_to_layer(layer: nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict]:
    """Hand a layer of the LLM its input in its own type; its neighbour may have another one.

    Args:
        layer: the layer.
        args: its positional arguments.
        kwargs: its keyword arguments.
    """
    dtype = dtype_of(layer)
    rotary = tuple(table.to(dtype) for table in kwargs['position_embeddings'])
    return (args[0].to(dtype), *args[1:]), dict(kwargs, position_embeddings=rotary)


@functools.lru_cache(maxsize=16)
def cache_argument(llm: type[nn.Module]) -> str:
    """What a decoder of transformers calls its keys and values: ``cache`` from 5.24 on."""
    known = inspect.signature(llm.forward).parameters
    return 'cache' if 'cache' in known else 'past_key_values'


def checkpoint_activations(llm: nn.Module) -> None:
    """Recompute the activations of a decoder of transformers in the backward pass."""
    # Named so from 5.24 on; the older name goes with version 6.
    enable = getattr(llm, 'activation_checkpointing_enable', None)
    (enable or llm.gradient_checkpointing_enable)()


def hf_config(config_class: type, values: dict, where: str):
    """Build a transformers config; unlike the class itself, refuse keys that it does not know."""
    known = set(config_class().to_dict()) | {'attn_implementation'}
    return config_class(**{str(k): v for k, v in check_keys(values, sorted(known), where).items()})


def _expand(ids: Tensor, values: Tensor, per_image: int, fill: int) -> Tensor:
    """Repeat each image place of ``ids`` (L) ``per_image`` times; ``values`` (L) follow."""
    is_image = ids == IMAGE_TOKEN_INDEX
    values = values.masked_fill(is_image, fill)
    return values.repeat_interleave(torch.where(is_image, per_image, 1))


def _expanded_length(ids: Tensor, per_image: int) -> int:
    return len(ids) + int((ids == IMAGE_TOKEN_INDEX).sum()) * (per_image - 1)
