"""Text for Qwen-VL: its tokenizer, and conversations in its chat format."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from mmcv.transforms import BaseTransform
from transformers import AddedToken, AutoTokenizer

from glus_mm.registry import TRANSFORMS
from glus_mm.text.prompt import (
    IGNORE_INDEX,
    IMAGE_TOKEN,
    IMAGE_TOKEN_INDEX,
    PromptTemplate,
    clean_expression,
    get_template,
)

SEG_TOKEN = '[SEG]'
IMAGE_TOKENS = ('<|vision_start|>', '<|image_pad|>', '<|vision_end|>')
TURN_TOKENS = ('<|im_start|>', '<|im_end|>')

SHIPPED_TOKENIZERS = {'qwen-tiny': Path(__file__).resolve().parent / 'assets' / 'tiny'}
SYSTEM = '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n'
USER = '<|im_start|>user\n'
ASSISTANT = '<|im_end|>\n<|im_start|>assistant\n'
END = '<|im_end|>'


class QwenTokenizer:
    """Qwen's byte-level tokenizer as transformers loads it, plus ``[SEG]``.

    Args:
        name_or_folder: ``'qwen-tiny'`` (ships with this project), a folder, or a name on the hub.

    Raises:
        FileNotFoundError: there is no such folder, and the hub has no such name or cannot be
            reached.
        ValueError: the tokenizer lacks a token that Qwen's chat format needs.
    """

    def __init__(self, name_or_folder: str) -> None:
        folder = SHIPPED_TOKENIZERS.get(name_or_folder, name_or_folder)
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(folder)
        except OSError as error:
            raise FileNotFoundError(
                f'expected one of {sorted(SHIPPED_TOKENIZERS)}, a folder with a Qwen tokenizer or '
                f'a name on the hub that can be reached, got {name_or_folder!r}: {error}'
            ) from error
        known = self._tokenizer.get_vocab()
        missing = [token for token in (*TURN_TOKENS, *IMAGE_TOKENS) if token not in known]
        if missing:
            raise ValueError('expected a tokenizer of Qwen-VL, one that has '
                             f'{missing}, got {name_or_folder!r}')
        # White space before it belongs to it, so that a prompt may end in the word before.
        self._tokenizer.add_tokens(
            [AddedToken(SEG_TOKEN, lstrip=True, normalized=False)], special_tokens=True)
        self.seg_id, self.vision_start_id, self.image_id, self.end_id = (
            self._tokenizer.convert_tokens_to_ids(token)
            for token in (SEG_TOKEN, *IMAGE_TOKENS[:2], TURN_TOKENS[1]))

    def __len__(self) -> int:
        """Number of ids, ``[SEG]`` included."""
        return len(self._tokenizer)

    @property
    def pad_id(self) -> int:
        """Id of padding, which no position that is read ever sees."""
        return self.end_id

    @property
    def markers(self) -> tuple[str, ...]:
        """Texts that become one added token and may not stand in an expression."""
        return tuple(self._tokenizer.get_added_vocab())

    def encode(self, text: str) -> list[int]:
        """Ids of a text; special tokens in it become their ids, nothing is put around it."""
        return self._tokenizer(text, add_special_tokens=False).input_ids

    def decode(self, ids: list[int]) -> str:
        """The text of ids, special tokens included."""
        return self._tokenizer.decode(ids)


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
    text = clean_expression(expression, tokenizer.markers)
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
    text = clean_expression(expression, tokenizer.markers)
    users = _user_texts(template, text, num_context, [template.test_question] * num_turns)
    past = template.past_answer.replace('{x}', text) + END
    # White space before [SEG] is a part of it.
    return _encode(tokenizer, past.join(users) + template.test_answer.replace('{x}', text).rstrip())


def split_prefix(ids: Sequence[int], num_context: int, tokenizer: QwenTokenizer) -> int:
    """Length of the part before the first query frame, equal for all expressions of a video."""
    starts = [i for i, index in enumerate(ids) if index == tokenizer.vision_start_id]
    return starts[num_context]


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


@TRANSFORMS.register_module()
class BuildQwenConversation(BaseTransform):
    """``BuildConversation`` for Qwen; the same keys go in and out.

    Args:
        tokenizer: name or folder, as for :class:`QwenTokenizer`; the MLLM's.
        template: name of the prompt template, whose texts are used.
    """

    def __init__(self, tokenizer: str, template: str) -> None:
        self.tokenizer = QwenTokenizer(tokenizer)
        self.template = get_template(template)

    def transform(self, results: dict) -> dict:
        """Build one conversation per expression, question and answer drawn for each turn."""
        rng, turns = results['rng'], len(results['query_frame_ids'])
        built = [build_conversation(
            self.tokenizer, self.template, expression['exp'], len(results['context_frame_ids']),
            rng.integers(len(self.template.questions), size=turns).tolist(),
            rng.integers(len(self.template.answers), size=turns).tolist())
            for expression in results['expressions']]
        results['input_ids'] = [ids for ids, _ in built]
        results['labels'] = [labels for _, labels in built]
        return results
