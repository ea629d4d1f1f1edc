"""GLUS's conversations in Qwen's chat format.

The texts are those of glus_mm's prompt templates; what stands between them is Qwen's: a system
message, then ``user`` and ``assistant`` turns, and ``<|vision_start|>``, image, ``<|vision_end|>``
for a frame. As everywhere in glus_mm an image is the single id ``IMAGE_TOKEN_INDEX``.
"""

from collections.abc import Sequence

import numpy as np

from glus_mm.text.prompt import (
    IGNORE_INDEX,
    IMAGE_TOKEN,
    IMAGE_TOKEN_INDEX,
    PromptTemplate,
    clean_expression,
)
from qwen_vl.qwen_tokenizer import IMAGE_TOKENS, QwenTokenizer

SYSTEM = '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n'
USER = '<|im_start|>user\n'
ASSISTANT = '<|im_end|>\n<|im_start|>assistant\n'
END = '<|im_end|>'


def build_conversation(tokenizer: QwenTokenizer, template: PromptTemplate, expression: str,
                       num_context: int, questions: Sequence[int], answers: Sequence[int]
                       ) -> tuple[np.ndarray, np.ndarray]:
    """A training conversation with one round per query frame.

    Args:
        template: the texts.
        expression: raw expression.
        num_context: context frames.
        questions: (Tq) index into ``template.questions`` for each query frame.
        answers: (Tq) likewise.

    Returns:
        ``input_ids`` and ``labels``, int64 (L); labels are the ids on the answers with their
        ``<|im_end|>`` and -100 elsewhere.

    Raises:
        ValueError: the expression cannot be used.
    """
    text = _clean(tokenizer, expression)
    ids: list[int] = []
    labels: list[int] = []
    users = _user_texts(template, text, num_context, [template.questions[q] for q in questions])
    for user, answer in zip(users, (template.answers[a] for a in answers), strict=True):
        asked = _encode(tokenizer, user)
        answered = _encode(tokenizer, answer.replace('{x}', text) + END)
        ids += asked + answered
        labels += [IGNORE_INDEX] * len(asked) + answered
    return np.array(ids, dtype=np.int64), np.array(labels, dtype=np.int64)


def build_prompt(tokenizer: QwenTokenizer, template: PromptTemplate, expression: str,
                 num_context: int, num_turns: int) -> list[int]:
    """The inference prompt for a window of ``num_turns`` query frames, its last answer open.

    Raises:
        ValueError: the expression cannot be used.
    """
    text = _clean(tokenizer, expression)
    users = _user_texts(template, text, num_context, [template.test_question] * num_turns)
    past = template.past_answer.replace('{x}', text) + END
    # White space before [SEG] is a part of it.
    return _encode(tokenizer, past.join(users) + template.test_answer.replace('{x}', text).rstrip())


def split_prefix(ids: Sequence[int], num_context: int, tokenizer: QwenTokenizer) -> int:
    """Length of the part before the first query frame, equal for all expressions of a video."""
    starts = [i for i, index in enumerate(ids) if index == tokenizer.vision_start_id]
    return starts[num_context]


def _clean(tokenizer: QwenTokenizer, expression: str) -> str:
    text = clean_expression(expression)
    for marker in tokenizer.markers:
        if marker.lower() in text:
            raise ValueError(f'expected no {marker!r} in an expression, got {expression!r}')
    return text


def _user_texts(template: PromptTemplate, expression: str, num_context: int,
                questions: Sequence[str]) -> list[str]:
    """What stands before each answer; the first has system message and context frames."""
    messages = [question.replace('{x}', expression) for question in questions]
    context = IMAGE_TOKEN * num_context + template.context_text if num_context else ''
    texts = [f'\n{USER}{message}{ASSISTANT}' for message in messages]
    texts[0] = f'{SYSTEM}{USER}{context}{messages[0]}{ASSISTANT}'
    return texts


def _encode(tokenizer: QwenTokenizer, text: str) -> list[int]:
    """Ids of a text with ``<image>`` marks."""
    ids = tokenizer.encode(text.replace(IMAGE_TOKEN, ''.join(IMAGE_TOKENS)))
    return [IMAGE_TOKEN_INDEX if index == tokenizer.image_id else index for index in ids]
