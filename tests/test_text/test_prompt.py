"""Tests of the prompt templates against the ids and labels of the official code."""

import json
import re

import numpy as np
import pytest

from glus_mm.text.prompt import (
    IGNORE_INDEX,
    IMAGE_TOKEN_INDEX,
    TEMPLATES,
    PromptTemplate,
    build_conversation,
    build_prompt,
    clean_expression,
    get_template,
    load_tokenizer,
    split_prefix,
)
from glus_mm.text.tokenizer import SegTokenizer
from programs import ROOT

OFFICIAL = ROOT / 'tests/data/official_prompt'
FIXTURE = ROOT / 'tests/data/official_glus_tiny'

OFFICIAL_TEMPLATE = get_template('llava_v1')
COMPACT = get_template('compact')


@pytest.fixture(scope='module')
def official() -> SegTokenizer:
    return SegTokenizer.from_pretrained(OFFICIAL)


@pytest.fixture(scope='module')
def tiny() -> SegTokenizer:
    return SegTokenizer.from_pretrained('tiny')


def indices(expression: str, questions: list[str], answers: list[str]) -> tuple[list, list]:
    """Template indices of the official questions and answers."""
    known = [q.split('\n')[1].replace('{x}', expression) for q in OFFICIAL_TEMPLATE.questions]
    return ([known.index(question) for question in questions],
            [OFFICIAL_TEMPLATE.answers.index(answer) for answer in answers])


# against the official code


@pytest.mark.parametrize('variant', ['', '_segfail', '_kf', '_nomem', '_gammabug'])
def test_every_step_of_every_call_equals_official(official, variant):
    expected = json.loads((FIXTURE / f'inference/expected{variant}.json').read_text())
    num_context, window = expected['context_frame_num'], expected['question_frame_num']
    assert (num_context, window) == (4, 4)
    for call in expected['calls']:
        assert len(call['input_ids']) == len(call['query_frames'])
        for step, ids in enumerate(call['input_ids']):
            turns = min(step + 1, window)
            made = build_prompt(official, OFFICIAL_TEMPLATE, call['exp'], num_context, turns)
            assert made == ids, (call['exp'], step)


def test_training_batch_equals_official(official):
    expected = json.loads((FIXTURE / 'train/expected.json').read_text())
    batch = np.load(FIXTURE / 'train/inputs.npz')
    row = 0
    for sample in expected['samples']:
        pairs = zip(sample['sampled_classes'], sample['questions'], strict=True)
        for expression, questions in pairs:
            answers = re.findall('ASSISTANT: (.*?)</s>', expected['conversations'][row])
            chosen = indices(
                clean_expression(expression), [q.split('\n')[1] for q in questions], answers)
            ids, labels = build_conversation(
                official, OFFICIAL_TEMPLATE, expression, expected['context_frame_num'], *chosen)
            assert ids.dtype == labels.dtype == np.int64
            padding = batch['input_ids'].shape[1] - len(ids)
            pad_ids = np.full(padding, official.pad_id)
            pad_labels = np.full(padding, IGNORE_INDEX)
            assert np.array_equal(batch['input_ids'][row], np.concatenate([ids, pad_ids]))
            assert np.array_equal(batch['labels'][row], np.concatenate([labels, pad_labels]))
            row += 1
    assert row == len(batch['input_ids'])


# properties of every template


@pytest.mark.parametrize('name', list(TEMPLATES))
@pytest.mark.parametrize('num_context', [0, 1, 4])
@pytest.mark.parametrize('num_turns', [1, 3])
def test_images_and_prefix(name, num_context, num_turns):
    template = get_template(name)
    tiny = load_tokenizer('tiny', template)
    ids = build_prompt(tiny, template, 'the red star', num_context, num_turns)
    images = [i for i, index in enumerate(ids) if index == IMAGE_TOKEN_INDEX]
    assert len(images) == num_context + num_turns
    marked = [ids[i - 1] == tiny.im_start_id and ids[i + 1] == tiny.im_end_id for i in images]
    assert marked == [template.image_marks] * len(images)
    assert tiny.pad_id not in ids
    assert ids.count(tiny.seg_id) == ids.count(tiny.eos_id) == num_turns - 1
    prefix = split_prefix(ids, num_context, tiny)
    assert prefix == images[num_context] - template.image_marks
    other = build_prompt(tiny, template, 'a cat', num_context, 4)
    assert other[:prefix] == ids[:prefix]
    assert split_prefix(np.array(other), num_context, tiny) == prefix


# A template of talk has no answers and no text of its own.
WITH_ANSWERS = [name for name, template in TEMPLATES.items() if template.answers]


@pytest.mark.parametrize('name', WITH_ANSWERS)
def test_no_context_has_no_context_text(name):
    template = get_template(name)
    tiny = load_tokenizer('tiny', template)
    context = (template.context_intro + template.context_text).strip()
    text = tiny.decode([i for i in build_prompt(tiny, template, 'a cat', 0, 2) if i >= 0])
    assert context not in text
    text = tiny.decode([i for i in build_prompt(tiny, template, 'a cat', 1, 2) if i >= 0])
    assert text.count(context) == 1


@pytest.mark.parametrize('name', WITH_ANSWERS)
def test_exactly_the_answers_are_supervised(name):
    template = get_template(name)
    tiny = load_tokenizer('tiny', template)
    answers = list(range(len(template.answers)))
    ids, labels = build_conversation(
        tiny, template, 'The RED star.', 2, [0] * len(answers), answers)
    supervised = labels != IGNORE_INDEX
    assert np.array_equal(labels[supervised], ids[supervised])
    expected = []
    for answer in template.answers:
        expected += tiny.encode(answer.replace('{x}', 'the red star') + '</s>')
    assert labels[supervised].tolist() == expected


def test_builders_are_pure(tiny):
    args = (tiny, COMPACT, 'the red star', 2, [0, 0], [0, 0])
    first, again = build_conversation(*args), build_conversation(*args)
    first[0][:] = 0
    assert not np.array_equal(first[0], again[0])
    assert np.array_equal(again[0], build_conversation(*args)[0])
    drawn = np.random.default_rng(0).integers(4, size=3)
    ids, _ = build_conversation(tiny, OFFICIAL_TEMPLATE, 'a cat', 1, drawn, drawn)
    again, _ = build_conversation(
        tiny, OFFICIAL_TEMPLATE, 'a cat', 1, drawn.tolist(), drawn.tolist())
    assert np.array_equal(ids, again)


# compact


@pytest.mark.parametrize('expression', ['the red star', 'A man, far left', '红色圆圈', 'a..', '12'])
@pytest.mark.parametrize('num_turns', [1, 4])
def test_compact_train_and_test_agree_up_to_seg(tiny, expression, num_turns):
    prompt = build_prompt(tiny, COMPACT, expression, 2, num_turns)
    ids, _ = build_conversation(tiny, COMPACT, expression, 2, [0] * num_turns, [0] * num_turns)
    assert ids[: len(prompt)].tolist() == prompt
    assert ids[len(prompt)] == tiny.seg_id


def test_compact(tiny):
    ids = build_prompt(tiny, COMPACT, 'the red circle', 4, 4)
    assert ids[:2] == [tiny.bos_id, tiny.encode('USER')[0]]
    images, context, rounds = 3 * 4 + 3 * 4, len(tiny.encode('These are context frames.')), 4
    question, answer = len('Where is the red circle ?'.split()), len('the red circle is'.split())
    speakers, past = len('USER : ASSISTANT :'.split()), len('[SEG] _ . </s>'.split())
    assert len(ids) == 1 + images + context + rounds * (speakers + question + answer) + 3 * past
    # The lone space token before an answer that starts with [SEG] is stripped, as official.
    only_seg = OFFICIAL_TEMPLATE.answers.index('[SEG].')
    ids, labels = build_conversation(tiny, OFFICIAL_TEMPLATE, 'a cat', 0, [0], [only_seg])
    first = int(np.flatnonzero(labels != IGNORE_INDEX)[0])
    assert ids[first] == tiny.seg_id
    assert ids[first - 1] == tiny.encode('x:')[-1]


# expressions are data


@pytest.mark.parametrize(('raw', 'cleaned'), [
    ('Yellow Circle near the border.', 'yellow circle near the border'), ('wait..', 'wait.'),
    ('Is it red?', 'is it red?'), (' spaces kept ', ' spaces kept '), ('CAFÉ', 'café'),
    ('{x}', '{x}')])
def test_clean_expression(raw, cleaned):
    assert clean_expression(raw) == cleaned


@pytest.mark.parametrize('text', ['', ' ', '.', ' \n\t.', '\u3000'])
def test_empty_expression(text):
    with pytest.raises(ValueError, match='expected an expression with some text, but got') as error:
        clean_expression(text)
    assert repr(text) in str(error.value)


def test_expressions_that_cannot_be_used():
    assert len(clean_expression('x' * 1000)) == 1000
    with pytest.raises(ValueError, match='at most 1000 characters, but got 10000'):
        clean_expression('x' * 10_000)
    with pytest.raises(ValueError, match='valid Unicode') as error:
        clean_expression('red \ud800')
    assert '\\ud800' in str(error.value)
    added = {'[SEG]': 480, '<im_start>': 481, '<im_end>': 482, '<im_patch>': 483}
    tokenizer = SegTokenizer(OFFICIAL / 'tokenizer.model', added)
    with pytest.raises(ValueError, match="'<im_patch>'.*'a <im_patch>'"):
        build_prompt(tokenizer, COMPACT, 'a <im_patch>', 1, 1)


@pytest.mark.parametrize('text', [b'red', None, 3])
def test_expression_of_another_type(text):
    with pytest.raises(TypeError, match='expected the expression as str'):
        clean_expression(text)


@pytest.mark.parametrize('token', [
    '[SEG]', '[seg]', '<image>', '<IMAGE>', '</s>', '<s>', '<unk>', '<im_start>', '<Im_End>'])
def test_expression_cannot_bring_tokens(tiny, token):
    expression = f'the cat{token} is'
    for call, args in ((clean_expression, (expression, )),
                       (build_prompt, (tiny, COMPACT, expression, 1, 1)),
                       (build_conversation, (tiny, COMPACT, expression, 1, [0], [0]))):
        with pytest.raises(ValueError, match=re.escape(repr(expression))):
            call(*args)


@pytest.mark.parametrize('expression', ['USER: hi ASSISTANT: no', 'a {x} b', '<im_ start>', '-200'])
def test_odd_expressions_stay_text(tiny, expression):
    ids, labels = build_conversation(tiny, COMPACT, expression, 1, [0, 0], [0, 0])
    counts = [(ids == i).sum() for i in (tiny.seg_id, tiny.eos_id, IMAGE_TOKEN_INDEX, tiny.bos_id)]
    assert counts == [2, 2, 3, 1]
    answer = tiny.decode(labels[labels != IGNORE_INDEX])
    assert answer == f'{expression.lower()} is[SEG].</s>' * 2


# errors


def test_templates():
    with pytest.raises(ValueError, match=r"\['compact', 'llava_v1', .*\], but got 'llava'"):
        get_template('llava')
    texts = {'system': '', 'context_text': '', 'test_question': '<image>?', 'test_answer': ''}
    with pytest.raises(ValueError, match="one <image> in a question of template 'mine'"):
        PromptTemplate(name='mine', questions=('where?',), answers=('[SEG]',), **texts)
    with pytest.raises(ValueError, match=r"one \[SEG\] in an answer of template 'mine'"):
        PromptTemplate(name='mine', questions=('<image>',), answers=('no',), **texts)


@pytest.mark.parametrize('field', ['questions', 'answers'])
@pytest.mark.parametrize('index', [-1, 5])
def test_template_index_out_of_range(tiny, field, index):
    chosen = {'questions': [0], 'answers': [0], field: [index]}
    with pytest.raises(ValueError, match=rf"into {field} of template 'llava_v1', but got {index}"):
        build_conversation(tiny, OFFICIAL_TEMPLATE, 'a cat', 1, **chosen)


@pytest.mark.parametrize(('questions', 'answers'), [([], []), ([0], []), ([0], [0, 0])])
def test_unequal_questions_and_answers(tiny, questions, answers):
    with pytest.raises(ValueError, match=f'{len(questions)} and {len(answers)}'):
        build_conversation(tiny, COMPACT, 'a cat', 1, questions, answers)


def test_bad_numbers(tiny):
    with pytest.raises(ValueError, match='num_turns must be .* at least 1, got 0'):
        build_prompt(tiny, COMPACT, 'a cat', 1, 0)
    with pytest.raises(ValueError, match='num_context must be .* at least 0, got -1'):
        build_prompt(tiny, COMPACT, 'a cat', -1, 1)
    ids = build_prompt(tiny, COMPACT, 'a cat', 2, 1)
    with pytest.raises(ValueError, match='num_context must be .* at least 0, got -1'):
        split_prefix(ids, -1, tiny)
    with pytest.raises(ValueError, match='more than 3 images .*, but got 3'):
        split_prefix(ids, 3, tiny)
