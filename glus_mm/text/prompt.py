"""Conversation templates: from an expression to the ids of a training or inference prompt.

The functions are pure: the same arguments give the same ids. A conversation is one round per query
frame, ``USER: <question> ASSISTANT: <answer></s>``; the first user message opens with the context
images. Every image is the three ids ``<im_start>``, :data:`IMAGE_TOKEN_INDEX`, ``<im_end>``.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from glus_mm.text.tokenizer import (
    IM_END_TOKEN,
    IM_START_TOKEN,
    REQUIRED_TOKENS,
    SCORE_TOKEN,
    SEG_TOKEN,
    SegTokenizer,
)
from glus_mm.utils.checked import checked

IMAGE_TOKEN_INDEX = -200
"""Placeholder id, replaced by the visual tokens of one frame inside the model."""

IGNORE_INDEX = -100
"""Label of a position that is not supervised."""

IMAGE_TOKEN = '<image>'
VIDEO_TOKEN = '<video>'
"""Stands in the text of a conversation for the frames that are shown of a video."""

MAX_EXPRESSION_LENGTH = 1000

_RESERVED = (IMAGE_TOKEN, VIDEO_TOKEN, '<s>', '</s>', '<unk>', *REQUIRED_TOKENS, SCORE_TOKEN)
_END = '</s>'
_ARTICLES = dict(question='a question', answer='an answer')


@dataclass(frozen=True)
class PromptTemplate:
    """Texts of a conversation; ``{x}`` stands for the expression.

    Args:
        name: key in :data:`TEMPLATES`.
        system: text before the first ``USER:``; ``''`` for none.
        context_text: text after the context images.
        questions: user messages, each with one ``<image>``; training draws one.
        answers: training answers, each with one ``token``; training draws one.
        test_question: user message at inference.
        test_answer: start of the answer at inference, which ``token`` is to continue.
        context_intro: text before the context images. Defaults to ``''``.
        token: what answers consist of. Defaults to ``[SEG]``.
        image_marks: whether ``<im_start>`` and ``<im_end>`` stand around each image.
            Defaults to True.
        video_at_once: whether a video stands at one image place of a conversation, whatever
            the number of its frames. Defaults to False.
        absent: word in place of ``token`` in the answer about a frame that does not show the
            object, with ``model.existence='answer'``. It has to be a single token, so that both
            answers are equally long and first differ where ``token`` is predicted. Defaults to
            ``''``: this template has none.

    Attributes:
        past_answer (str): answer of an earlier frame at inference, the same whether ``token`` came
            or not.
    """

    name: str
    system: str
    context_text: str
    questions: tuple[str, ...]
    answers: tuple[str, ...]
    test_question: str
    test_answer: str
    context_intro: str = ''
    token: str = SEG_TOKEN
    image_marks: bool = True
    video_at_once: bool = False
    absent: str = ''
    past_answer: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, 'past_answer', f'{self.test_answer.rstrip()} {self.token}.')
        for question in (*self.questions, self.test_question):
            if question.count(IMAGE_TOKEN) != 1:
                raise ValueError(
                    f'expected one {IMAGE_TOKEN} in a question of template {self.name!r}, '
                    f'got {question!r}')
        for answer in self.answers:
            if answer.count(self.token) != 1:
                raise ValueError(
                    f'expected one {self.token} in an answer of template {self.name!r}, '
                    f'got {answer!r}')


_LLAVA_V1_SYSTEM = (
    'A chat between a curious human and an artificial intelligence assistant. '
    'The assistant gives helpful, detailed, and polite answers to the human\'s questions.')
_LLAVA_V1_QUESTIONS = (
    '<image>\nCan you segment the {x} in this frame?',
    '<image>\nPlease segment the {x} in this frame.',
    '<image>\nWhat is {x} in this frame? Please respond with segmentation mask.',
    '<image>\nWhat is {x} in this frame? Please output segmentation mask.')

_SELECTOR_QUESTION = (
    'Target Image: <image> \nDoes the Target Image provide enough information for localizing and '
    'segmenting the {x} in the Reference Video?')

TEMPLATES = {
    template.name: template
    for template in (
        # The official texts, spelling included: published weights expect exactly these.
        PromptTemplate(
            name='llava_v1',
            system=_LLAVA_V1_SYSTEM,
            context_text=(
                '\nPlease finished the following tasks on the context frames above.\n'),
            questions=_LLAVA_V1_QUESTIONS,
            answers=(
                'It is [SEG].',
                'Sure, [SEG].',
                'Sure, it is [SEG].',
                'Sure, the segmentation result is [SEG].',
                '[SEG].'),
            test_question=_LLAVA_V1_QUESTIONS[0],
            # The trailing space is an extra token that training never shows; kept as official.
            test_answer='Sure, the segmentation result is ',
            # One piece of the LLaMA vocabulary (id 5642) that fits all five answers.
            absent='none'),
        # Few tokens for a small model. The answer repeats the expression, so that supervising
        # the whole answer teaches language; the test answer equals it token by token up to [SEG].
        PromptTemplate(
            name='compact',
            system='',
            context_text='\nThese are context frames.\n',
            questions=('<image>\nWhere is {x}?',),
            answers=('{x} is [SEG].',),
            test_question='<image>\nWhere is {x}?',
            test_answer='{x} is',
            absent='not'),
        # The official texts of the key-frame selector, on Chat-UniVi, which has no image marks.
        # Their longer variant for expressions that are questions is left out.
        PromptTemplate(
            name='selector',
            system=_LLAVA_V1_SYSTEM,
            context_intro='Reference Video: ',
            context_text=' \n',
            questions=tuple(f'{_SELECTOR_QUESTION} {request}' for request in (
                'Please respond with a confidence score.', 'Please output confidence score.')),
            answers=(
                'It is [SCORE].',
                'Sure, [SCORE].',
                'Sure, it is [SCORE].',
                'Sure, the prediction result is [SCORE].'),
            test_question=f'{_SELECTOR_QUESTION} Please respond with a confidence score.',
            test_answer='It is',
            token=SCORE_TOKEN,
            image_marks=False),
        # Chat-UniVi's own conversations, for questions on a video as a whole.
        PromptTemplate(
            name='video_qa',
            system=(
                'A chat between a curious user and an artificial intelligence assistant. The '
                'assistant gives helpful, detailed, and polite answers to the user\'s questions.'),
            context_text='\n',
            questions=(),
            answers=(),
            test_question='<image>\n{x}',
            test_answer='',
            image_marks=False,
            video_at_once=True),
        # For a selector that starts from a model of 'compact', whose words it keeps.
        PromptTemplate(
            name='selector_compact',
            system='',
            context_text='\nThese are context frames.\n',
            questions=('<image>\nWhere is {x}?',),
            answers=('{x} is [SCORE].',),
            test_question='<image>\nWhere is {x}?',
            test_answer='{x} is',
            token=SCORE_TOKEN))
}


def load_tokenizer(name_or_folder: str | Path, template: PromptTemplate) -> SegTokenizer:
    """Load a tokenizer that knows the answer token of a template.

    Args:
        name_or_folder: as for ``SegTokenizer.from_pretrained``, likewise the errors.
        template: the texts.

    Returns:
        The tokenizer; its ``seg_id`` is that of ``template.token``.
    """
    return SegTokenizer.from_pretrained(name_or_folder, answer_token=template.token)


def get_template(name: str) -> PromptTemplate:
    """Return the template of that name.

    Raises:
        ValueError: there is none of that name.
    """
    if name not in TEMPLATES:
        raise ValueError(f'expected a prompt template among {sorted(TEMPLATES)}, but got {name!r}')
    return TEMPLATES[name]


def clean_expression(text: str, markers: Sequence[str] = ()) -> str:
    """Bring a referring expression into the form the prompts use: lower case, one final '.' cut.

    An expression is data and must not bring tokens of its own: one that contains the text of a
    special token, in upper or lower case, is refused rather than changed. Use it on the raw
    expression only; the builders below do so themselves.

    Args:
        text: the raw expression.
        markers: further texts to refuse: those of a tokenizer's own added tokens.

    Raises:
        TypeError: ``text`` is no string.
        ValueError: it is empty, only white space, longer than 1000 characters, not valid
            Unicode, or contains ``[SEG]``, ``<image>``, ``<video>``, ``<im_start>``,
            ``<im_end>``, ``<s>``, ``</s>`` or ``<unk>``, or one of ``markers``.
    """
    if not isinstance(text, str):
        raise TypeError(f'expected the expression as str, but got {type(text).__name__}: {text!r}')
    if len(text) > MAX_EXPRESSION_LENGTH:
        raise ValueError(
            f'expected an expression of at most {MAX_EXPRESSION_LENGTH} characters, but got '
            f'{len(text)}: {text[:60]!r}...')
    cleaned = text.removesuffix('.').lower()
    if not cleaned.strip():
        raise ValueError(f'expected an expression with some text, but got {text!r}')
    _refuse_tokens(cleaned, text, 'an expression', (*_RESERVED, *markers))
    return cleaned


def check_message(text: str, role: str) -> None:
    """Refuse what a message of a conversation must not hold.

    Args:
        text: what a person asks or a model is to answer, as annotated. Questions may hold
            ``<image>`` and ``<video>``, which stand for what is shown.
        role: ``'question'`` or ``'answer'``.

    Raises:
        ValueError: it is empty, not valid Unicode, or contains a special token, see
            :func:`clean_expression`.
    """
    words = text
    if role == 'question':
        words = text.replace(IMAGE_TOKEN, '').replace(VIDEO_TOKEN, '')
    if not words.strip():
        raise ValueError(f'expected {_ARTICLES[role]} with some text, but got {text!r}')
    _refuse_tokens(words.lower(), text, _ARTICLES[role], _RESERVED)


def build_talk(tokenizer: SegTokenizer, template: PromptTemplate, turns: Sequence[tuple[str, str]],
               num_context: int) -> tuple[np.ndarray, np.ndarray]:
    """Build a training conversation of questions and answers in words.

    It has the form of :func:`build_conversation`. ``<video>`` becomes what the template shows
    before the first question about a video: its frames with the text around them, after which a
    line break of the question is left out. ``<image>`` is one frame.

    Args:
        template: the texts around questions and frames.
        turns: questions and answers; white space around them is cut.
        num_context: number of frames shown of a video, at least 1.

    Returns:
        ``input_ids`` and ``labels``, int64 (L); the answers are supervised as a whole.

    Raises:
        ValueError: there is no turn, ``num_context`` is below 1, or a text is empty or holds
            the text of a special token.
    """
    if not turns or num_context < 1:
        raise ValueError(f'expected at least one turn and num_context >= 1, but got {len(turns)} '
                         f'turns and num_context={num_context}')
    images = 1 if template.video_at_once else num_context
    shown = template.context_intro + IMAGE_TOKEN * images + template.context_text
    humans, answers = [], []
    for question, answer in turns:
        for text, role in ((question, 'question'), (answer, 'answer')):
            check_message(text, role)
            _refuse_tokens(text, text, _ARTICLES[role], tokenizer.markers)
        text = re.sub(rf'{VIDEO_TOKEN}[ \t]*\n?', lambda _: shown, question.strip())
        humans.append(f'USER: {text} ASSISTANT:')
        answers.append(answer.strip())
    if template.system:
        humans[0] = f'{template.system} {humans[0]}'
    return _supervise(tokenizer, template, humans, answers)


def build_conversation(tokenizer: SegTokenizer, template: PromptTemplate, expression: str,
                       num_context: int, questions: Sequence[int], answers: Sequence[int]
                      ) -> tuple[np.ndarray, np.ndarray]:
    """Build a training conversation with one round per query frame.

    Args:
        template: the texts.
        expression: raw expression; :func:`clean_expression` is applied, and added tokens of
            the tokenizer are refused.
        num_context: number of context frames; 0 leaves the context text out too.
        questions: index into ``template.questions`` of each query frame.
        answers: index into ``template.answers`` of each query frame.

    Returns:
        ``input_ids`` and ``labels``, int64 (L).
        ``labels`` equal the ids on the answers, ``</s>`` included, and are -100 elsewhere (official
        rule). They are not shifted.

    Raises:
        ValueError: On a bad expression, a negative ``num_context``, no or unequal numbers of
            questions and answers, or an index outside the template.
    """
    if len(questions) != len(answers) or len(questions) == 0:
        raise ValueError(
            'expected as many questions as answers and at least one, but got '
            f'{len(questions)} and {len(answers)} for expression {expression!r}')
    chosen_questions = [_pick(template, 'questions', index) for index in questions]
    chosen_answers = [_pick(template, 'answers', index) for index in answers]
    cleaned = clean_expression(expression, tokenizer.markers)
    humans = _human_parts(template, cleaned, num_context, chosen_questions)
    texts = [answer.replace('{x}', cleaned) for answer in chosen_answers]
    return _supervise(tokenizer, template, humans, texts)


def _supervise(tokenizer: SegTokenizer, template: PromptTemplate, humans: Sequence[str],
               answers: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Ids of rounds, and labels on their answers; ``humans`` end with ``ASSISTANT:``."""
    input_ids, labels = [tokenizer.bos_id], [IGNORE_INDEX]
    for human, answer in zip(humans, answers, strict=True):
        ids = _encode(tokenizer, f'{human} {answer}{_END}', template.image_marks)
        # Official: len(tok(human + ' ')) - 2 with <s> and the lone space token counted, which is
        # the length without either.
        num_ignored = len(_encode(tokenizer, human, template.image_marks))
        input_ids += ids
        labels += [IGNORE_INDEX] * num_ignored + ids[num_ignored:]
    return np.array(input_ids, dtype=np.int64), np.array(labels, dtype=np.int64)


def build_prompt(tokenizer: SegTokenizer, template: PromptTemplate, expression: str,
                 num_context: int, num_turns: int, answers: Sequence[bool] | None = None
                ) -> list[int]:
    """Build the inference prompt for a window of query frames.

    Earlier frames are answered with ``template.past_answer``; the answer to the last frame is left
    open after ``template.test_answer``. The ids do not depend on which frames the window holds.

    With ``answers`` an earlier frame without the object is answered with ``template.absent``, and
    white space at the end of ``template.test_answer`` is left out: it is an extra token that
    training never shows, after which neither answer would go on as it was learned.

    Args:
        template: the texts.
        expression: raw expression; :func:`clean_expression` is applied, and added tokens of
            the tokenizer are refused.
        num_context: number of context frames; 0 leaves the context text out too.
        num_turns: number of query frames in the window, the current one included.
        answers: for each earlier frame whether ``template.token`` was its
            answer; None where the history has it whatever came. Defaults to None.

    Returns:
        The ids; -200 at each image.

    Raises:
        ValueError: On a bad expression, a negative ``num_context``, ``num_turns`` below 1, another
            number of ``answers`` than of earlier frames, or a template without ``absent``.
    """
    checked(1, num_turns=num_turns)
    cleaned = clean_expression(expression, tokenizer.markers)
    humans = _human_parts(template, cleaned, num_context, [template.test_question] * num_turns)
    past, start = (answer.replace('{x}', cleaned)
                   for answer in (template.past_answer, template.test_answer))
    text = ''.join(f'{human} {past}{_END}' for human in humans[:-1]) + f'{humans[-1]} {start}'
    if answers is None:
        return [tokenizer.bos_id, *_encode(tokenizer, text, template.image_marks)]
    ids = [tokenizer.bos_id, *_encode(tokenizer, text.rstrip(), template.image_marks)]
    return replace_answers(ids, answers, tokenizer.seg_id, absent_id(tokenizer, template))


def absent_id(tokenizer: SegTokenizer, template: PromptTemplate) -> int:
    """Find the token that stands in place of the answer token where there is no object.

    Returns:
        The id of ``template.absent``.

    Raises:
        ValueError: the template has no such word, or it is not a single token.
    """
    if not template.absent:
        raise ValueError(f'the prompt template {template.name!r} has no answer for a frame without '
                         "the object (absent), which model.existence='answer' needs")
    ids = tokenizer.encode(template.absent)
    if len(ids) != 1:
        raise ValueError(
            f'expected the word {template.absent!r} (absent of the prompt template '
            f'{template.name!r}) to be one token, as {template.token} is, but the tokenizer '
            f'makes {len(ids)} of it')
    return ids[0]


def replace_answers(ids: Sequence[int], answers: Sequence[bool], token_id: int, absent: int
                   ) -> list[int]:
    """Put the other answer where a frame does not show the object.

    Args:
        ids: ids of a conversation or a prompt.
        answers: whether each answer token in them stays.
        token_id: id of the answer token.
        absent: what :func:`absent_id` returned.

    Returns:
        Equally many ids.

    Raises:
        ValueError: there are more or fewer answer tokens than ``answers``.
    """
    positions = [i for i, index in enumerate(ids) if index == token_id]
    if len(positions) != len(answers):
        raise ValueError(f'expected {len(answers)} answers in the conversation, one for each '
                         f'frame, but got {len(positions)}')
    replaced = list(ids)
    for position, said in zip(positions, answers, strict=True):
        if not said:
            replaced[position] = absent
    return replaced


def split_prefix(ids: Sequence[int], num_context: int, tokenizer: SegTokenizer) -> int:
    """Find where the part of a prompt ends that is equal for all expressions and windows.

    Args:
        ids: ids of :func:`build_prompt` or :func:`build_conversation`.
        num_context: number of context frames in it.
        tokenizer: the tokenizer that made the ids.

    Returns:
        Length of the prefix: the index of the first query image, or of its ``<im_start>``.

    Raises:
        ValueError: there are not more than ``num_context`` images.
    """
    checked(0, num_context=num_context)
    starts = [i - (i > 0 and ids[i - 1] == tokenizer.im_start_id)
              for i, index in enumerate(ids) if index == IMAGE_TOKEN_INDEX]
    if len(starts) <= num_context:
        raise ValueError(
            f'expected more than {num_context} images (num_context), but got {len(starts)}')
    return starts[num_context]


def _refuse_tokens(lower: str, text: str, what: str, tokens: Sequence[str]) -> None:
    """Raise ValueError if a text, here in lower case too, holds a token or is no Unicode."""
    for token in tokens:
        if token in lower or token.lower() in lower:
            raise ValueError(f'expected no {token!r} in {what}, but got {text!r}')
    try:
        lower.encode('utf-8')
    except UnicodeEncodeError as error:
        raise ValueError(f'expected valid Unicode text as {what}, but got {text!r}') from error


def _pick(template: PromptTemplate, field: str, index: int) -> str:
    """Return text ``index`` of ``template.<field>``, with an error that names both."""
    texts = getattr(template, field)
    if not 0 <= index < len(texts):
        raise ValueError(
            f'expected an index in [0, {len(texts)}) into {field} of template '
            f'{template.name!r}, but got {index}')
    return texts[index]


def _human_parts(template: PromptTemplate, expression: str, num_context: int,
                 questions: Sequence[str]) -> list[str]:
    """Return the text of each round up to and with ``ASSISTANT:``."""
    checked(0, num_context=num_context)
    # Not format(): braces in the expression stay as they are.
    messages = [question.replace('{x}', expression) for question in questions]
    if num_context:
        context = template.context_intro + IMAGE_TOKEN * num_context + template.context_text
        messages[0] = context + messages[0]
    parts = [f'USER: {message} ASSISTANT:' for message in messages]
    if template.system:
        parts[0] = f'{template.system} {parts[0]}'
    return parts


def _encode(tokenizer: SegTokenizer, text: str, image_marks: bool = True) -> list[int]:
    """Tokenize text with ``<image>`` marks, without ``<s>``.

    Args:
        text: text of one or more rounds.
        image_marks: whether marks stand around each image.

    Returns:
        The ids; each ``<image>`` is ``<im_start>``, -200, ``<im_end>``, or -200 alone.
    """
    marked = IM_START_TOKEN + IMAGE_TOKEN + IM_END_TOKEN if image_marks else IMAGE_TOKEN
    chunks = text.replace(IMAGE_TOKEN, marked)
    ids: list[int] = []
    for i, chunk in enumerate(chunks.split(IMAGE_TOKEN)):
        if i:
            ids.append(IMAGE_TOKEN_INDEX)
        ids += tokenizer.encode(chunk)
    return ids
