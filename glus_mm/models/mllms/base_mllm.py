"""What GLUS asks of a multimodal LLM; one subclass per family."""

from abc import ABCMeta, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn


@dataclass(frozen=True)
class ConversationTrace:
    """States inside of the LLM of ``N`` conversations, for losses that only training has.

    Attributes:
        states: layer -> (P, D), the states after that many layers of the P positions that were
            run; 0 is the input.
        index: (N, L) which of them each position of a conversation is; the end of a shorter one is
            padded.
        images: (N) lists of where the visual tokens of each image start.
        answers: (N) lists of the positions whose states predict ``[SEG]``, or the answer in its
            place.
        per_image: V visual tokens of an image.
    """

    states: dict[int, Tensor]
    index: Tensor
    images: list[list[int]]
    answers: list[list[int]]
    per_image: int

    def visual(self, layer: int, rows: Sequence[int], starts: Sequence[int]) -> Tensor:
        """States (K, V, D) of K images.

        Args:
            layer: after how many layers.
            rows: (K) their conversations.
            starts: (K) where they start.
        """
        places = torch.tensor(starts)[:, None] + torch.arange(self.per_image)
        return self.states[layer][self.index[torch.tensor(rows)[:, None], places]]


@dataclass(frozen=True)
class SegTokens:
    """Seg tokens of ``N`` conversations.

    Attributes:
        tokens: (N, Tq, C) projected hidden states in training, of those conversations that have
            ``[SEG]``; (N, C) at inference.
        is_seg: bool (N), whether ``[SEG]`` is the most likely next token; None in training,
            where the answer is given.
        presence: float32 (N), the probability of ``[SEG]`` as the next token; nan where an MLLM
            does not tell, None in training.
        trace: states of the layers that training asked for.
    """

    tokens: Tensor
    is_seg: Tensor | None = None
    presence: Tensor | None = None
    trace: ConversationTrace | None = None

    def __post_init__(self) -> None:
        """Fill in the presence where it is not told."""
        if self.is_seg is not None and self.presence is None:
            unknown = torch.full(self.is_seg.shape, float('nan'), device=self.is_seg.device)
            object.__setattr__(self, 'presence', unknown)

    def accepted(self, threshold: float | None) -> Tensor:
        """Which tokens (N) count as ``[SEG]``.

        Args:
            threshold: the least probability of ``[SEG]``; None asks for the most likely token.

        Raises:
            ValueError: there is a threshold, and the MLLM does not tell the probability.
        """
        if threshold is None:
            return self.is_seg
        if self.presence.isnan().any():
            raise ValueError('model.test_cfg.seg_threshold needs an MLLM that tells how probable '
                             '[SEG] is, got one that does not')
        return self.presence >= threshold


class BaseMLLM(BaseModule, metaclass=ABCMeta):
    """Interface between GLUS and a multimodal LLM.

    Training hands over whole conversations, inference a prefix (system text and context frames,
    the same for all expressions of a video) and then windows of query frames. All state is passed:
    what :meth:`prefill` returns belongs to the session.

    Attributes:
        image_size (int): side P of the vision tower's input.
        vision_crop (str): how a frame is brought to it, see
            :func:`glus_mm.utils.image.vision_tower_image`.
        joins_videos (bool): whether prompts of several videos can be run as one batch. Then
            ``visual_tokens`` and ``prefix`` of :meth:`next_seg_tokens`,
            :meth:`seg_tokens_of_turns` and :meth:`next_turns` may be lists with those of each
            prompt; prompts of one video have the same tensor and the same prefix. All of them
            show equally many frames.
    """

    image_size: int
    vision_crop: str
    joins_videos: bool = False

    @property
    def precision_parts(self) -> list[nn.Module]:
        """Modules that compute in one floating type each and cast their input to it.

        With ``model.dtype`` in half precision GLUS builds the MLLM under that default type, then
        keeps float32 what is trained, see :func:`glus_mm.utils.precision.set_precision`. A family
        that does not cast between its modules is one part, the default.
        """
        return [self]

    def compile_parts(self) -> None:
        """Run what is hot through ``torch.compile``: the vision tower, where it has this name."""
        if hasattr(self, 'vision_tower'):
            self.vision_tower.compile()

    def check_frames(self, number: int, what: str) -> None:
        """See that a prompt with so many frames can be run, as far as that is known before.

        Args:
            number: of frames.
            what: the settings that they come from, for the message.

        Raises:
            ValueError: they need more positions than the LLM has.
        """

    @abstractmethod
    def encode_images(self, imgs: Tensor) -> Tensor:
        """Turn frames (M, 3, P, P) into visual tokens (M, V, D)."""

    @abstractmethod
    def forward(self, input_ids: Sequence[Tensor], labels: Sequence[Tensor],
                visual_tokens: Sequence[Tensor], ce_target: str | Sequence[str],
                groups: Sequence[int] | None = None,
                answers: Sequence[Sequence[bool]] | None = None,
                window: int | None = None, layers: Sequence[int] = ()
                ) -> tuple[SegTokens, Tensor, Tensor]:
        """Run whole conversations.

        Args:
            input_ids: N of (L) with :data:`IMAGE_TOKEN_INDEX` where a frame stands.
            labels: N of (L), -100 where nothing is supervised.
            visual_tokens: N of (frames, V, D) in the order of the conversation.
            ce_target: ``'seg'`` or ``'answer'``, which labels count; or (N) for each conversation.
            groups: (N) equal for conversations that show the same frames. What they have in
                common may then be computed once; the result is the same up to rounding. None
                where every conversation is to run alone.
            answers: (N, Tq) False where the other answer, that there is no object, stands in the
                place of ``[SEG]``; None where ``[SEG]`` always does. Such a place has a seg token
                and a supervised token like the others.
            window: number of turns that a turn attends to, itself included; needs
                :meth:`use_turn_window`. None where it attends to all before it.
            layers: of which layers of the LLM the seg tokens are to have a ``trace``.

        Returns:
            The seg tokens (N, Tq, C) of those that have ``[SEG]``, which is as often in each; the
            logits (K, vocabulary) at the supervised positions and their targets (K).
        """

    def attention(self, layer: int, trace: ConversationTrace, rows: Sequence[int],
                  queries: Sequence[int], keys: Sequence[int]) -> Tensor:
        """Attention that states of conversations pay to images, for losses of training.

        Args:
            layer: of the LLM, the one whose input is ``trace.states[layer]``.
            trace: of the conversations.
            rows: (K) conversations.
            queries: (K) positions that look.
            keys: (K) where the visual tokens of the image start that each looks at.

        Returns:
            (K, heads, V), the logarithms.

        Raises:
            NotImplementedError: the family does not tell.
        """
        raise NotImplementedError(f'{type(self).__name__} does not tell its attention, which '
                                  'model.loss_grounding needs')

    def check_absent(self) -> None:
        """See that there is an answer for frames without the object.

        Raises:
            ValueError: there is none, so that ``model.existence='answer'`` cannot be had.
        """
        raise ValueError(f'{type(self).__name__} has no answer for a frame without the object, '
                         "which model.existence='answer' needs")

    @abstractmethod
    def prompt(self, expression: str, num_context: int, num_turns: int,
               answers: Sequence[bool] | None = None) -> list[int]:
        """Token ids of the inference prompt for a window of ``num_turns`` query frames.

        Args:
            expression: the text.
            num_context: context frames Tc before the first turn.
            num_turns: query frames of the window; the last answer is open.
            answers: (num_turns - 1) whether ``[SEG]`` was the answer to each earlier frame; None
                where the history has it whatever came, the only way that an MLLM without
                :meth:`check_absent` has to know.
        """

    @abstractmethod
    def split_prefix(self, prompt: list[int], num_context: int) -> int:
        """Length of the part of a prompt that all expressions share."""

    @abstractmethod
    def prefill(self, prefix_ids: list[int], visual_tokens: Tensor) -> Any:
        """Run the prefix once: its ids and context frames (Tc, V, D); returns its state."""

    @abstractmethod
    def next_seg_tokens(self, input_ids: Sequence[list[int]], visual_tokens: Tensor,
                        prefix: Any = None) -> SegTokens:
        """Predict the next token of ``N`` prompts that end where the answer is open.

        Args:
            input_ids: N prompts, or what follows the prefix of each.
            visual_tokens: (frames, V, D) that all N of them show.
            prefix: state of :meth:`prefill`; it is not changed. None where ``input_ids`` hold
                the whole prompts.

        Returns:
            Seg tokens (N, C) and whether each would be ``[SEG]``.
        """

    def seg_tokens_of_turns(self, input_ids: Sequence[Sequence[list[int]]],
                            visual_tokens: Tensor, prefix: Any = None) -> SegTokens:
        """Predict the next token of several turns of ``N`` conversations.

        What the prompts say about earlier turns is given, not taken from what is predicted here.
        So the turns of a window may be run at once; here they are run one by one, with the same
        result.

        Args:
            input_ids: N of s prompts as for :meth:`next_seg_tokens`, each of which shows one
                frame more than the one before.
            visual_tokens: (frames, V, D) that the last prompt of each shows.
            prefix: see :meth:`next_seg_tokens`.

        Returns:
            Seg tokens (N, s, C), and whether each would be ``[SEG]``, (N, s).
        """
        turns = []
        for rest, prompts in enumerate(reversed(list(zip(*input_ids)))):
            if isinstance(visual_tokens, Tensor):
                frames = visual_tokens[:len(visual_tokens) - rest]
            else:  # prompts of one video go on having the same tensor
                shown = {id(tokens): tokens[:len(tokens) - rest] for tokens in visual_tokens}
                frames = [shown[id(tokens)] for tokens in visual_tokens]
            turns.append(self.next_seg_tokens(list(prompts), frames, prefix))
        turns.reverse()
        return SegTokens(*(torch.stack([getattr(turn, name) for turn in turns], 1)
                           for name in ('tokens', 'is_seg', 'presence')))

    def use_turn_window(self) -> None:
        """Get ready for a window of turns that stay, see :mod:`.turn_window`.

        Raises:
            ValueError: this MLLM cannot have one.
        """
        raise ValueError(self._no_turn_window('it does not implement BaseMLLM.next_turns'))

    def _no_turn_window(self, reason: str) -> str:
        return (f"{type(self).__name__} cannot keep turns, as {reason}: expected "
                "model.test_cfg.window_cache='none' and model.train_cfg.attention='full'")

    def next_turns(self, prompts: Sequence[list[int]], num_context: int, visual_tokens: Tensor,
                   prefix: Any, kept: Sequence[Any], window: int) -> tuple[SegTokens, list[Any]]:
        """Predict the next token of ``N`` conversations whose earlier turns are kept.

        Args:
            prompts: N whole prompts of two turns: the newest kept one with its answer (where
                nothing is kept, with the one to be expected), and the new one.
            num_context: context frames Tc in them.
            visual_tokens: (1, V, D) of the new frame.
            prefix: state of :meth:`prefill`.
            kept: N of what the call for the frame before returned, None at the first frame; not
                changed.
            window: number of turns, that of the new frame included.

        Returns:
            Seg tokens (N, C), and what to keep of each conversation, bounded by the window.
        """
        raise NotImplementedError
