"""What an off-the-shelf key-frame selector asks of a multimodal LLM."""

from abc import ABCMeta, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from glus_mm.utils.checked import checked


@dataclass(frozen=True)
class AnswerCfg:
    """How answers in words are made.

    Attributes:
        num_answers: answers to each question.
        max_new_tokens: bound of an answer.
        temperature: 0 takes the most likely token each time, else tokens are drawn.
    """

    num_answers: int = 1
    max_new_tokens: int = 64
    temperature: float = 0.0

    def __post_init__(self) -> None:
        checked(1, num_answers=self.num_answers, max_new_tokens=self.max_new_tokens)
        if not 0 <= self.temperature < float('inf'):
            raise ValueError(f'temperature must be 0 or a positive number, got {self.temperature}')
        if self.num_answers > 1 and self.temperature == 0:
            raise ValueError(f'expected a temperature above 0 with num_answers='
                             f'{self.num_answers}: without drawing all answers are the same')


class BaseVideoQA(metaclass=ABCMeta):
    """A multimodal LLM that answers questions on a video in words.

    Attributes:
        image_size (int): side P of the vision tower's input.
        vision_crop (str): how a frame is brought to it, see
            :func:`glus_mm.utils.image.vision_tower_image`.
    """

    image_size: int
    vision_crop: str

    @abstractmethod
    def answer_questions(self, imgs: Tensor, questions: Sequence[str], cfg: AnswerCfg,
                         generators: Sequence[torch.Generator]) -> list[list[str]]:
        """Answer questions on one video.

        Args:
            imgs: its frames (T, 3, P, P), normalised.
            questions: texts.
            cfg: how.
            generators: one for each question, on the CPU; used where tokens are drawn.

        Returns:
            For each question ``cfg.num_answers`` answers, without white space around them.
        """

    def answer_logits(self, imgs: Tensor, input_ids: Sequence[Tensor],
                      labels: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """What training compares: logits where answers on one video are supervised.

        Args:
            imgs: its frames (T, 3, P, P), normalised.
            input_ids: N conversations (L) of :func:`glus_mm.text.prompt.build_talk` with
                the template ``'video_qa'``: the video stands at one place.
            labels: N of (L), -100 where nothing is supervised.

        Returns:
            Logits (K, vocabulary) and their targets (K).

        Raises:
            NotImplementedError: the family cannot be trained so.
        """
        raise NotImplementedError(f'{type(self).__name__} has no answer_logits: it cannot be '
                                  'trained as a VideoQASelector')
