"""Chat-UniVi answers questions on a video."""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import DynamicCache

from glus_mm.models import ChatUniViMLLM
from glus_mm.registry import MODELS
from glus_mm.text.prompt import IMAGE_TOKEN_INDEX, get_template
from glus_mm.utils.precision import at_least_float32, run_in_own_type
from video_qa.base_video_qa import AnswerCfg, BaseVideoQA

# No image marks stand around the video.
_BEFORE_VIDEO = f"{get_template('video_qa').system} USER: "
_AFTER_VIDEO = '\n{question} ASSISTANT:'


@MODELS.register_module()
class ChatUniViVideoQA(ChatUniViMLLM, BaseVideoQA):
    """Chat-UniVi with an answer in words; the arguments and the weights are its own."""

    @torch.no_grad()
    def answer_questions(self, imgs: Tensor, questions: Sequence[str], cfg: AnswerCfg,
                         generators: Sequence[torch.Generator]) -> list[list[str]]:
        """See :meth:`BaseVideoQA.answer_questions`; the video is encoded once."""
        video = self.encode_video(imgs)[None]
        answers = []
        for question, generator in zip(questions, generators, strict=True):
            prompt = self.question_prompt(question)
            ids = [self.generate(prompt, video, cfg.max_new_tokens, cfg.temperature, generator)
                   for _ in range(cfg.num_answers)]
            answers.append([self.tokenizer.decode(answer).strip() for answer in ids])
        return answers

    def answer_logits(self, imgs: Tensor, input_ids: Sequence[Tensor],
                      labels: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """See :meth:`BaseVideoQA.answer_logits`; the video is encoded once."""
        video = self.encode_video(imgs)[None]
        _, logits, targets = self(input_ids, labels, [video] * len(input_ids), 'answer',
                                  groups=[0] * len(input_ids))
        return logits, targets

    def question_prompt(self, question: str) -> list[int]:
        """Ids of a question on a video, which stands at the one ``IMAGE_TOKEN_INDEX``."""
        return [*self.tokenizer.encode(_BEFORE_VIDEO, add_bos=True), IMAGE_TOKEN_INDEX,
                *self.tokenizer.encode(_AFTER_VIDEO.replace('{question}', question))]

    @torch.no_grad()
    def generate(self, prompt_ids: Sequence[int], visual_tokens: Tensor, max_new_tokens: int,
                 temperature: float = 0.0, generator: torch.Generator | None = None) -> list[int]:
        """Continue one prompt in words until ``</s>``.

        Args:
            prompt_ids: its ids, with one ``IMAGE_TOKEN_INDEX`` for each image or video.
            visual_tokens: (images, V, D); a video is an image of its own V.
            max_new_tokens: bound of the answer.
            temperature: 0 takes the most likely token, else tokens are drawn.
            generator: for drawing, on the CPU.

        Returns:
            The ids of the answer, without ``</s>``. Added tokens such as ``[SCORE]``, which are no
            words, and rows beyond the tokenizer are left out of account.
        """
        cache, answer = DynamicCache(), []
        hidden = self._run([torch.tensor(prompt_ids)], [visual_tokens], cache)
        no_words = list(self.tokenizer.added_tokens.values())
        for _ in range(max_new_tokens):
            logits = at_least_float32(run_in_own_type(self.lm_head, hidden[0, -1])).cpu()
            logits[no_words] = -torch.inf
            token = _choose(logits[:len(self.tokenizer)], temperature, generator)
            if token == self.tokenizer.eos_id:
                break
            answer.append(token)
            hidden = self._run([torch.tensor([token])], [visual_tokens[:0]], cache)
        return answer


def _choose(logits: Tensor, temperature: float, generator: torch.Generator | None) -> int:
    """The next token of logits (vocabulary)."""
    if temperature == 0:
        return int(logits.argmax())
    return int(torch.multinomial((logits / temperature).softmax(-1), 1, generator=generator))
