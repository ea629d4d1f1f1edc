"""An MLLM whose language model is causal: conversations, prefixes and windows, the same for all."""

import contextlib
import copy
import functools
import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence
from transformers import DynamicCache

from glus_mm.models.mllms.base_mllm import BaseMLLM, ConversationTrace, SegTokens
from glus_mm.models.mllms.layout import Layout, branches, common_prefix, lay_out, pick
from glus_mm.models.mllms.turn_window import (
    ATTENTION,
    KeptTurns,
    LayerBehindPrefix,
    SecondRotation,
    TurnWindow,
    rotate,
    window_in_training,
)
from glus_mm.text.prompt import (
    IGNORE_INDEX,
    IMAGE_TOKEN_INDEX,
    absent_id,
    build_prompt,
    replace_answers,
    split_prefix,
)
from glus_mm.utils.modules import check_keys
from glus_mm.utils.precision import at_least_float32, dtype_of, run_in_own_type

# Implementations of attention that take any mask.
MASKED_ATTENTION = ('sdpa', 'eager', ATTENTION)
# Compiled, the LLM runs sequences of a multiple of so many positions.
LENGTH_STEP = 32
# Of these rotary embeddings a sum of positions is a product of rotations.
PLAIN_ROTARY = ('default', 'linear', 'llama3')


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
        tokens_per_image (int | None): V, where each of them takes up one position of the LLM.
        joins_videos (bool): whether the positions of tokens are a plain count, so that any layout
            has them: so they are unless a family has ``_decoder_arguments`` of its own.
    """

    tokens_per_image: int | None = None
    # Its compiled form, of a function so that a copy of the model runs its own LLM; None without.
    _compiled_llm: Callable[..., Any] | None = None

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.joins_videos = cls._decoder_arguments is CausalMLLM._decoder_arguments

    def check_frames(self, number: int, what: str) -> None:
        """See :meth:`BaseMLLM.check_frames`; rotary positions go on beyond what was trained."""
        size, most = self.tokens_per_image, self.llm.config.max_position_embeddings
        if size is not None and number * size > most:
            raise ValueError(
                f'{what}: expected at most {most // size} frames in a prompt, as a frame has '
                f'{size} tokens and the LLM {most} positions (model.mllm.llm.'
                f'max_position_embeddings), got {number}')

    def forward(self, input_ids: Sequence[Tensor], labels: Sequence[Tensor],
                visual_tokens: Sequence[Tensor], ce_target: str | Sequence[str] = 'seg',
                groups: Sequence[int] | None = None,
                answers: Sequence[Sequence[bool]] | None = None,
                window: int | None = None, layers: Sequence[int] = ()
                ) -> tuple[SegTokens, Tensor, Tensor]:
        """See :meth:`BaseMLLM.forward`."""
        per_image = visual_tokens[0].shape[1]
        ids, seg_id = self._expand(input_ids, input_ids, per_image, 0), self.tokenizer.seg_id
        if answers is not None:
            absent = absent_id(self.tokenizer, self.template)
            input_ids, labels = (
                [row.new_tensor(replace_answers(row.tolist(), given, seg_id, absent))
                 for row, given in zip(rows, answers)] for rows in (input_ids, labels))
        targets = self._expand(labels, input_ids, per_image, IGNORE_INDEX).masked_fill(
            ids == IMAGE_TOKEN_INDEX, IGNORE_INDEX)
        next_is_seg = ids[:, 1:] == seg_id
        counts = next_is_seg.sum(1).tolist()
        if len({*counts} - {0}) > 1:
            raise ValueError(f'expected conversations with equally many [SEG], got {counts}')
        states: dict[int, Tensor] = {}
        with self._recorded(layers, states):
            hidden, index = self._conversation_states(
                input_ids, visual_tokens, groups, window, counts)
        hidden = hidden.flatten(0, 1)[index][:, :-1]
        tokens = run_in_own_type(self.seg_projector, hidden[next_is_seg])
        tokens = tokens.view(sum(map(bool, counts)), max(counts), tokens.shape[-1])
        targets = targets[:, 1:]
        if isinstance(ce_target, str):
            ce_target = [ce_target] * len(input_ids)
        whole = torch.tensor([target == 'answer' for target in ce_target], device=targets.device)
        counted = torch.where(whole[:, None], targets != IGNORE_INDEX, next_is_seg)
        logits = self._logits_at(hidden, counted)
        trace = None if not layers else ConversationTrace(
            {layer: state.flatten(0, 1) for layer, state in states.items()}, index,
            [[place + number * (per_image - 1) for number, place in enumerate(
                (row == IMAGE_TOKEN_INDEX).nonzero()[:, 0].tolist())] for row in input_ids],
            [row.nonzero()[:, 0].tolist() for row in next_is_seg], per_image)
        return SegTokens(tokens, trace=trace), logits, targets[counted]

    @contextlib.contextmanager
    def _recorded(self, layers: Sequence[int], states: dict[int, Tensor]) -> Iterator[None]:
        """Put the states after some layers of the LLM into ``states``; 0 is its input."""
        found = list(self.llm.layers)
        for layer in layers:
            if not 0 <= layer <= len(found):
                raise ValueError(f'expected layers of model.mllm.llm in 0..{len(found)}, '
                                 f'got {layer}')
        hooks = []
        for layer in layers:
            if layer == 0:
                hooks.append(found[0].register_forward_pre_hook(
                    lambda _, args: states.__setitem__(0, args[0])))
            else:
                hooks.append(found[layer - 1].register_forward_hook(
                    lambda _, args, out, layer=layer: states.__setitem__(
                        layer, out[0] if isinstance(out, tuple) else out)))
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def check_absent(self) -> None:
        """See :meth:`BaseMLLM.check_absent`."""
        absent_id(self.tokenizer, self.template)

    def compile_parts(self) -> None:
        """See :meth:`BaseMLLM.compile_parts`; at inference also the LLM, if it takes any layout.

        Lengths come in steps, so that shapes repeat: on a GPU as CUDA graphs. A graph's results are
        overwritten when it runs again, so that keys and values are copied; so are hidden states,
        of which callers take a few positions.
        """
        super().compile_parts()
        if self.joins_videos:
            self._compiled_llm = torch.compile(
                _call, mode='reduce-overhead' if torch.cuda.is_available() else None)

    def prompt(self, expression: str, num_context: int, num_turns: int,
               answers: Sequence[bool] | None = None) -> list[int]:
        """See :meth:`BaseMLLM.prompt`."""
        return list(_recent_prompt(self.tokenizer, self.template, expression, num_context,
                                   num_turns, None if answers is None else tuple(answers)))

    def split_prefix(self, prompt: list[int], num_context: int) -> int:
        """See :meth:`BaseMLLM.split_prefix`."""
        return split_prefix(prompt, num_context, self.tokenizer)

    def prefill(self, prefix_ids: list[int], visual_tokens: Tensor) -> DynamicCache:
        """See :meth:`BaseMLLM.prefill`; the state is the keys and values (1, heads, L, D/heads)."""
        cache = DynamicCache()
        self._run([torch.tensor(prefix_ids)], [visual_tokens], cache)
        return cache

    def next_seg_tokens(self, input_ids: Sequence[list[int]],
                        visual_tokens: Tensor | Sequence[Tensor],
                        prefix: DynamicCache | None | Sequence[DynamicCache] = None) -> SegTokens:
        """See :meth:`BaseMLLM.next_seg_tokens`; logits are made for one position only.

        What the prompts of a video have in common is run once: behind the prefix, the first query
        frame. Prompts of one video have the same tensor of visual tokens.
        """
        ids, cut = [torch.tensor(i) for i in input_ids], 0
        visual, prefixes = _for_each(visual_tokens, len(ids)), _for_each(prefix, len(ids))
        videos = list(dict.fromkeys(map(id, visual)))
        if len(videos) < len(ids) and self.joins_videos:
            cut = min(common_prefix(ids), min(map(len, ids)) - 1)
        frames = int((ids[0][:cut] == IMAGE_TOKEN_INDEX).sum())
        if frames:
            owner = [videos.index(id(tokens)) for tokens in visual]
            firsts = [owner.index(b) for b in range(len(videos))]
            start = branches([prefixes[n] for n in firsts]) or DynamicCache()
            self._run([ids[0][:cut]] * len(firsts), [visual[n][:frames] for n in firsts], start)
            starts = [start] if len(firsts) == 1 else [
                pick(start, slice(b, b + 1)) for b in range(len(firsts))]
            rests = [visual[n][frames:] for n in firsts]
            ids, visual, prefixes = [i[cut:] for i in ids], [rests[b] for b in owner], [
                starts[b] for b in owner]
        hidden = self._run(ids, visual, branches(prefixes))
        last = [_expanded_length(i, visual[0].shape[1]) - 1 for i in ids]
        return self._predict(hidden[torch.arange(len(ids)), torch.tensor(last)])

    def seg_tokens_of_turns(self, input_ids: Sequence[Sequence[list[int]]],
                            visual_tokens: Tensor | Sequence[Tensor],
                            prefix: DynamicCache | None | Sequence[DynamicCache] = None
                            ) -> SegTokens:
        """See :meth:`BaseMLLM.seg_tokens_of_turns`; all turns are run as one sequence."""
        if (self.llm.config._attn_implementation not in MASKED_ATTENTION
                or len(input_ids[0]) < 2 or not self.joins_videos):
            return super().seg_tokens_of_turns(input_ids, visual_tokens, prefix)
        visual = _for_each(visual_tokens, len(input_ids))
        prefix = branches(_for_each(prefix, len(input_ids)))
        per_image, seen = visual[0].shape[1], 0 if prefix is None else prefix.get_seq_length()
        rows = [[torch.tensor(prompt) for prompt in prompts] for prompts in input_ids]
        cuts = [[common_prefix([prompt, prompts[-1]]) for prompt in prompts] for prompts in rows]
        layout = lay_out(
            [_expanded_length(prompt, per_image) for prompts in rows for prompt in prompts],
            [_expanded_length(prompt[:cut], per_image) for some, prompts in zip(cuts, rows)
             for cut, prompt in zip(some, prompts)],
            [n for n, prompts in enumerate(rows) for _ in prompts], seen)
        ids = [torch.cat([prompts[-1], *(prompt[cut:] for cut, prompt in zip(some, prompts))])
               for some, prompts in zip(cuts, rows)]
        hidden = self._run(ids, visual, prefix, layout).flatten(0, 1)[layout.last]
        return self._predict(hidden.unflatten(0, (len(rows), -1)))

    def use_turn_window(self) -> None:
        """See :meth:`BaseMLLM.use_turn_window`; needs rotary positions that are a plain count."""
        rotary = getattr(self.llm, 'rotary_emb', None)
        implementation = self.llm.config._attn_implementation
        if not self.joins_videos or getattr(rotary, 'rope_type', None) not in PLAIN_ROTARY:
            raise ValueError(self._no_turn_window('the positions of its tokens are no plain count'))
        if implementation not in ('sdpa', ATTENTION):
            raise ValueError(self._no_turn_window(
                f'its attention is {implementation!r} and would have to be sdpa'))
        self.llm.set_attn_implementation(ATTENTION)

    def next_turns(self, prompts: Sequence[list[int]], num_context: int,
                   visual_tokens: Tensor | Sequence[Tensor],
                   prefix: DynamicCache | Sequence[DynamicCache],
                   kept: Sequence[KeptTurns | None], window: int
                   ) -> tuple[SegTokens, list[KeptTurns]]:
        """See :meth:`BaseMLLM.next_turns`.

        A turn is run as a whole, with the answer that the one before it got: it is the likely one.
        Where another one came, the turn's end is run anew before the next turn.
        """
        visual = _for_each(visual_tokens, len(prompts))
        prefix = branches(_for_each(prefix, len(prompts)))
        start = self.split_prefix(prompts[0], num_context)
        rests = [prompt[start:] for prompt in prompts]
        begins = [self.split_prefix(prompt, num_context + 1) - start for prompt in prompts]
        closed = [rest[:begin] for rest, begin in zip(rests, begins)]
        heads, _, width = prefix.layers[0].keys.shape[1:]
        nothing = KeptTurns(prefix.layers[0].keys.new_empty(
            2, len(prefix.layers), heads, 0, width), [], [])
        states = [nothing if state is None else self._without_oldest(
            state, len(state.lengths) >= window) for state in self._answered(
                closed, prefix, kept, visual[0][:0])]
        cuts = [common_prefix([torch.tensor(turn), torch.tensor(rest[begin:])])
                for turn, rest, begin in zip(closed, rests, begins)]
        ends = [rest[begin + cut:] for rest, begin, cut in zip(rests, begins, cuts)]
        more = visual[0].shape[1] - 1  # positions of a frame beside its place in the ids
        hidden, keep = self._run_behind(
            prefix, states, closed, ends, [cut + more for cut in cuts], visual)
        keep = [replace(state, lengths=[*old.lengths, len(turn) + more], newest=turn)
                for state, old, turn in zip(keep, states, closed)]
        return self._predict(hidden), keep

    def _answered(self, closed: Sequence[list[int]], prefix: DynamicCache,
                  kept: Sequence[KeptTurns | None], no_frame: Tensor) -> list[KeptTurns | None]:
        """Run the end of those turns anew that were answered otherwise than expected."""
        states = list(kept)
        wrong = [n for n, (state, turn) in enumerate(zip(kept, closed))
                 if state is not None and state.newest != turn]
        tails, short = [], []
        for n in wrong:
            cut = common_prefix([torch.tensor(kept[n].newest), torch.tensor(closed[n])])
            if IMAGE_TOKEN_INDEX in (*kept[n].newest[cut:], *closed[n][cut:]):
                raise ValueError('expected a prompt whose first turn is the newest kept one, got '
                                 f'another one from its token {cut} on')
            size = kept[n].size - (len(kept[n].newest) - cut)
            tails.append(closed[n][cut:])
            short.append(replace(kept[n], states=kept[n].states[..., :size, :], lengths=[size]))
        if wrong:
            _, run = self._run_behind(pick(prefix, wrong), short, tails, [[]] * len(tails),
                                      list(map(len, tails)), [no_frame] * len(tails))
            for n, state in zip(wrong, run):
                lengths = kept[n].lengths
                states[n] = replace(state, newest=closed[n], lengths=[
                    *lengths[:-1], lengths[-1] + len(closed[n]) - len(kept[n].newest)])
        return states

    def _run_behind(self, prefix: DynamicCache, states: Sequence[KeptTurns],
                    ids: Sequence[list[int]], ends: Sequence[list[int]], cuts: Sequence[int],
                    visual: Sequence[Tensor]) -> tuple[Tensor, list[KeptTurns]]:
        """Run ids behind what is kept, and open ends that go on from ``cuts`` positions of them.

        Everything has N entries, the prefix too.

        Returns:
            Hidden states (N, D) where the open ends end, and what is kept with the ids, whose
            lengths and newest turn are still those of before.
        """
        per_image, seen = visual[0].shape[1], prefix.get_seq_length()
        sizes = [_expanded_length(torch.tensor(row), per_image) for row in ids]
        kept = pad_sequence([state.states.movedim(3, 0) for state in states])
        kept = kept.permute(2, 3, 1, 4, 0, 5)  # (2, layers, N, heads, L, d)
        if self._compiled_llm is not None:
            kept = F.pad(kept, (0, 0, 0, -kept.shape[4] % LENGTH_STEP))
        layout = lay_out(
            [length for size, cut, end in zip(sizes, cuts, ends) for length in (
                size, cut + len(end))],
            [length for both in zip(sizes, cuts) for length in both],
            [n for n in range(len(ids)) for _ in range(2)], seen,
            [state.size for state in states], kept.shape[4])
        cache = copy.copy(prefix)
        cache.layers = [LayerBehindPrefix(layer, kept[:, i])
                        for i, layer in enumerate(prefix.layers)]
        first = cache.get_seq_length()
        hidden = self._run([torch.tensor(row + end) for row, end in zip(ids, ends)],
                           visual, cache, layout)
        new = torch.stack([torch.stack([getattr(layer, name)[:, :, first:]
                                        for layer in cache.layers]) for name in ('keys', 'values')])
        keep = [replace(state, states=torch.cat([state.states, new[:, :, n, :, :size]], 3))
                for n, (state, size) in enumerate(zip(states, sizes))]
        return hidden.flatten(0, 1)[layout.last[1::2]], keep

    def _without_oldest(self, state: KeptTurns, full: bool) -> KeptTurns:
        """Drop the oldest turn where the window is full; the others move up to the prefix."""
        if not full:
            return state
        drop = state.lengths[0]
        place = torch.full((1, 1), -drop, device=state.states.device)
        cos, sin = self.llm.rotary_emb(at_least_float32(state.states[:0]), place)
        keys, values = state.states[..., drop:, :]
        return replace(state, states=torch.stack([rotate(keys, cos, sin), values]),
                       lengths=state.lengths[1:])

    def _predict(self, hidden: Tensor) -> SegTokens:
        """Seg tokens of states (..., D) that predict a token."""
        logits, seg_id = run_in_own_type(self.lm_head, hidden), self.tokenizer.seg_id
        return SegTokens(run_in_own_type(self.seg_projector, hidden), logits.argmax(-1) == seg_id,
                         logits.float().softmax(-1)[..., seg_id])

    def _logits_at(self, hidden: Tensor, chosen: Tensor) -> Tensor:
        """Logits (K, vocabulary) of the K states (N, L, D) that are chosen, bool (N, L)."""
        return run_in_own_type(self.lm_head, hidden[chosen])

    def _conversation_states(self, input_ids: Sequence[Tensor], visual_tokens: Sequence[Tensor],
                             groups: Sequence[int] | None, window: int | None,
                             num_turns: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Hidden states (G, P, D) of whole conversations, prefixes computed once if it pays, and
        where the positions (N, L) of the conversations are in them when flattened."""
        per_image = visual_tokens[0].shape[1]
        lengths = [_expanded_length(ids, per_image) for ids in input_ids]
        if groups is None and window is not None:
            groups = range(len(input_ids))
        if groups is None or self.llm.config._attn_implementation not in MASKED_ATTENTION:
            return self._run_apart(input_ids, visual_tokens)
        number = {group: g for g, group in enumerate(dict.fromkeys(groups))}
        members = [[n for n, group in enumerate(groups) if number[group] == g]
                   for g in range(len(number))]
        shared = [common_prefix([input_ids[n] for n in some]) if len(some) > 1 else 0
                  for some in members]
        prefixes = [_expanded_length(ids[:shared[number[group]]], per_image)
                    for ids, group in zip(input_ids, groups)]
        layout = lay_out(lengths, prefixes, [number[group] for group in groups])
        if layout.size >= len(lengths) * max(lengths) and window is None:
            return self._run_apart(input_ids, visual_tokens)
        rows, visual = [], []
        for some, cut in zip(members, shared):
            first = input_ids[some[0]][:cut]
            rows.append(torch.cat([first, *(input_ids[n][cut:] for n in some)]))
            seen = int((first == IMAGE_TOKEN_INDEX).sum())
            visual.append(torch.cat([visual_tokens[some[0]][:seen],
                                     *(visual_tokens[n][seen:] for n in some)]))
        if window is not None:
            layout = window_in_training(
                layout, [self._turn_starts(ids, per_image, turns)
                         for ids, turns in zip(input_ids, num_turns)], window)
        hidden = self._run(rows, visual, layout=layout)
        return hidden, layout.index(max(lengths)).to(hidden.device)

    def _run_apart(self, input_ids: Sequence[Tensor], visual_tokens: Sequence[Tensor]
                   ) -> tuple[Tensor, Tensor]:
        hidden = self._run(input_ids, visual_tokens)
        count = hidden.shape[0] * hidden.shape[1]
        return hidden, torch.arange(count, device=hidden.device).view(hidden.shape[:2])

    def _turn_starts(self, ids: Tensor, per_image: int, num_turns: int) -> list[int]:
        """Positions where the turns of the query frames, which come last, begin."""
        number = int((ids == IMAGE_TOKEN_INDEX).sum())
        return [_expanded_length(ids[:self.split_prefix(ids.tolist(), before)], per_image)
                for before in range(number - num_turns, number)]

    def _decoder_arguments(self, is_image: Tensor, visual: Tensor, cache: DynamicCache | None,
                           layout: Layout | None) -> dict[str, Any]:
        """More arguments of the LLM, mask and positions of a layout among them.

        A family whose positions are no plain count overrides this.
        """
        if layout is None:
            return {}
        device = self.lm_head.weight.device
        mask = layout.mask().to(device)
        if self.llm.config._attn_implementation == 'eager':  # which adds its mask to the scores
            mask = torch.zeros(mask.shape, device=device).masked_fill(
                ~mask, torch.finfo(torch.float32).min)
        arguments = dict(attention_mask=mask, position_ids=layout.positions.to(device))
        if isinstance(layout, TurnWindow) and layout.shift is not None:
            cos, sin = self.llm.rotary_emb(
                at_least_float32(self.lm_head.weight[:0]), layout.shift.to(device))
            arguments['second_rotation'] = SecondRotation(cos, sin, (layout.turn == 0).to(device))
        return arguments

    def _run(self, input_ids: Sequence[Tensor], visual_tokens: Sequence[Tensor],
             cache: DynamicCache | None = None, layout: Layout | None = None) -> Tensor:
        """Hidden states (N, L, D) after the final norm; ``cache`` is read and extended."""
        per_image = visual_tokens[0].shape[1]
        ids = self._expand(input_ids, input_ids, per_image, self.tokenizer.pad_id)
        is_image = ids == IMAGE_TOKEN_INDEX
        visual = torch.cat([tokens.flatten(0, 1) for tokens in visual_tokens])
        if int(is_image.sum()) != len(visual):
            raise ValueError(f'expected {len(visual) // per_image} image places in the '
                             f'conversations, got {int(is_image.sum()) // per_image}')
        embeds = self.llm.get_input_embeddings()(ids.masked_fill(is_image, 0))
        embeds = embeds.to(dtype_of(self.llm.layers[0]))
        # What a family has beyond the width of the LLM is for inner layers.
        embeds = embeds.masked_scatter(
            is_image[..., None], visual[:, :embeds.shape[-1]].to(embeds.dtype))
        arguments = {**self._decoder_arguments(is_image, visual, cache, layout),
                     cache_argument(type(self.llm)): cache, 'use_cache': cache is not None}
        if self._compiled_llm is None or torch.is_grad_enabled():
            return self.llm(inputs_embeds=embeds, **arguments).last_hidden_state
        length = embeds.shape[1]
        more = -length % LENGTH_STEP
        embeds = F.pad(embeds, (0, 0, 0, more))
        if layout is not None:
            arguments['position_ids'] = F.pad(arguments['position_ids'], (0, more))
            mask = F.pad(arguments['attention_mask'], (0, more, 0, more))
            mask[:, :, length:, 0] = True  # a row without any key is no number
            arguments['attention_mask'] = mask
        seen = 0 if cache is None else cache.get_seq_length()
        if embeds.is_cuda:
            torch.compiler.cudagraph_mark_step_begin()
        hidden = self._compiled_llm(self.llm, inputs_embeds=embeds, **arguments)[:, :length]
        for layer in [] if cache is None else cache.layers:
            layer.keys, layer.values = (
                states[:, :, :seen + length].clone() for states in (layer.keys, layer.values))
        return hidden

    def _expand(self, rows: Sequence[Tensor], input_ids: Sequence[Tensor], per_image: int,
                padding: int) -> Tensor:
        """Rows (N, L), each value repeated where an image stands in the ids, as the LLM sees it."""
        rows = [row.repeat_interleave(torch.where(ids == IMAGE_TOKEN_INDEX, per_image, 1))
                for row, ids in zip(rows, input_ids)]
        return pad_sequence(rows, True, padding).to(self.lm_head.weight.device)


# A track asks for the same few prompts on each frame.
_recent_prompt = functools.lru_cache(maxsize=1024)(build_prompt)


def _call(llm: nn.Module, **arguments: Any) -> Tensor:
    """Hidden states; the LLM is an argument, see ``CausalMLLM._compiled_llm``."""
    return llm(**arguments).last_hidden_state


def cast_to_layer(layer: nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict]:
    """Hand a layer of the LLM its input in its own type; its neighbour may have another one.

    Args:
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


# Those that transformers documents; it takes any other one without a word.
ROPE_PARAMETERS = (
    'rope_type', 'rope_theta', 'partial_rotary_factor', 'factor', 'attention_factor',
    'original_max_position_embeddings', 'beta_fast', 'beta_slow', 'short_factor', 'long_factor',
    'low_freq_factor', 'high_freq_factor', 'mrope_section', 'mrope_interleaved')


def hf_config(config_class: type, values: dict, where: str):
    """Build a transformers config; unlike the class itself, refuse keys that it does not know."""
    known = set(config_class().to_dict()) | {'attn_implementation'}
    if isinstance(values.get('rope_parameters'), dict):
        check_keys(dict(values['rope_parameters']), ROPE_PARAMETERS, f'{where}.rope_parameters')
    values = {str(key): value for key, value in check_keys(values, sorted(known), where).items()}
    try:
        return config_class(**values)
    except StrictDataclassError as error:  # in several lines
        raise ValueError(f'{where}: {" ".join(str(error).split())}') from error


@dataclass(frozen=True)
class LoRA:
    """Where and how low-rank adapters are added; the defaults are the paper's.

    Attributes:
        r: rank.
        alpha: scale; the update is multiplied by ``alpha / r``.
        dropout: on the adapter's input.
        target_modules: names of the linear layers.
    """

    r: int = 8
    alpha: int = 16
    dropout: float = 0.05
    target_modules: tuple[str, ...] = ('q_proj', 'v_proj')

    def inject(self, module: nn.Module) -> None:
        """Add the adapters in place; all other parameters of ``module`` are frozen."""
        # Not at the top: peft takes long to import, and most models have no adapters.
        from peft import LoraConfig, inject_adapter_in_model

        inject_adapter_in_model(
            LoraConfig(
                r=self.r, lora_alpha=self.alpha, lora_dropout=self.dropout, bias='none',
                target_modules=list(self.target_modules)), module)
        # MMEngine would have transformers draw what it has not made itself, which are the adapters:
        # a training would start from the published weights plus noise.
        module.is_init = True
        for name, parameter in module.named_parameters():
            parameter.requires_grad_('lora_' in name)


def _for_each(value: Any, number: int) -> list:
    """What is given for each of so many prompts, or once for all of them."""
    return list(value) if isinstance(value, (list, tuple)) else [value] * number


def _expanded_length(ids: Tensor, per_image: int) -> int:
    return len(ids) + int((ids == IMAGE_TOKEN_INDEX).sum()) * (per_image - 1)
