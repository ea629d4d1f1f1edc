"""What is said about MovingShapes is true, can be seen, and is short."""

import json

import numpy as np
import pytest

from glus_mm.datasets.moving_shapes import VARIANTS, generate_video, write_split
from glus_mm.datasets.moving_shapes.scene import COLOURS, SHAPES
from glus_mm.datasets.moving_shapes.talk import NUMBERS, PLACES, QUOTAS, enumerate_talk, sample_talk
from glus_mm.text.tokenizer import SegTokenizer

# Where pixels lie, as parts of the sides, when all of an object's frames of a quarter are put
# together: written without the code under test.
THIRDS = {'left': (0, 0), 'right': (0, 2), 'top': (1, 0), 'bottom': (1, 2)}


@pytest.fixture(scope='module')
def videos():
    return [generate_video(3, 'train', i, variant) for variant in VARIANTS for i in range(8)]


@pytest.fixture(scope='module')
def pairs(videos):
    return [(video, pair) for video in videos
            for pair in enumerate_talk(video.objects, video.frames.shape[1:3])]


def named(video, noun):
    """Objects of a noun phrase without its article."""
    words = noun.split()
    return [i for i, item in enumerate(video.objects) if all(
        word in ('shape', 'shapes', item.colour, item.shape, item.shape + 's') for word in words)]


def centre(video, i, t):
    """Centre of the pixels of an object, as a part of the sides; None where hidden."""
    rows, columns = video.masks[i, t].nonzero()
    if not len(rows):
        return None
    height, width = video.masks.shape[2:]
    return np.array([columns.mean() / width, rows.mean() / height])


def shift(video, i):
    item, (height, width) = video.objects[i], video.frames.shape[1:3]
    return (item.centres[-1] - item.centres[0]) / (width, height)


def goes(video, i, direction):
    """Whether an object has moved by a third of the side in a direction, and hardly otherwise."""
    x, y = shift(video, i)
    along, across = {'left': (-x, y), 'right': (x, y), 'up': (-y, x), 'down': (y, x)}[direction]
    return along > 0.33 and abs(across) < 0.2


def listed(video, answer):
    """How many objects of each look an answer names."""
    looks = {}
    for part in answer.replace(' and ', ', ').split(', '):
        number, colour, shape = part.split()[:3]
        number = 1 if number in ('a', 'an') else NUMBERS.index(number)
        looks[colour, shape.removesuffix('s')] = number + looks.get((colour, shape), 0)
    return looks


def looks_of(video, members):
    found = {}
    for i in members:
        key = video.objects[i].colour, video.objects[i].shape
        found[key] = found.get(key, 0) + 1
    return found


def of_kind(pairs, kind, start=''):
    found = [(video, pair) for video, pair in pairs
             if pair.kind == kind and pair.question.startswith(start)]
    assert len(found) > 20 or kind == 'order', (kind, start)
    return found


def test_motions(pairs):
    for video, pair in of_kind(pairs, 'motion', 'how does the '):
        i, = named(video, pair.question[len('how does the '):-len(' move?')])
        direction = pair.answer.split()[-1]
        if direction == 'still':
            assert np.abs(shift(video, i)).max() < 0.01
        else:
            assert goes(video, i, direction), pair
    for video, pair in of_kind(pairs, 'motion', 'is there a'):
        noun, direction = pair.question.removesuffix('?').split(' ', 3)[3].split(' moving ')
        assert (pair.answer == 'yes') == any(
            goes(video, i, direction) for i in named(video, noun)), pair
    for video, pair in of_kind(pairs, 'motion', 'What moves '):
        direction = pair.question.removesuffix('?').split()[-1]
        members = [i for i in range(len(video.objects)) if goes(video, i, direction)]
        assert (listed(video, pair.answer) if members else {}) == looks_of(video, members), pair
        assert members or pair.answer == 'no shape'


def test_places_are_seen_on_every_frame_of_the_quarter(pairs):
    for video, pair in of_kind(pairs, 'place'):
        i, = named(video, pair.question[len('Where is the '):].rsplit(' ', 1)[0])
        words = pair.answer.split(' is ')[1].split()
        column, row = (next((n for word, (a, n) in THIRDS.items() if word in words and a == axis),
                            1) for axis in (0, 1))
        frames = range(3) if pair.question.endswith('first?') else range(9, 12)
        centres = [video.objects[i].centres[t] for t in frames]
        height, width = video.frames.shape[1:3]
        for x, y in centres:
            assert (int(3 * x / width), int(3 * y / height)) == (column, row), pair
        assert all(video.masks[i, t].any() for t in frames)


def test_relations_and_events(pairs):
    for video, pair in of_kind(pairs, 'relation'):
        relation = next(r for r in ('left of', 'right of', 'over', 'under') if r in pair.question)
        one, two = (named(video, name.removeprefix('the ')) for name in
                    pair.question[len('is '):-1].split(f' {relation} '))
        axis = 0 if 'of' in relation else 1
        gaps = video.objects[one[0]].centres - video.objects[two[0]].centres
        sign = -1 if relation in ('left of', 'over') else 1
        holds = sign * gaps[:, axis] > 5
        assert holds.all() if pair.answer == 'yes' else not holds.any(), pair
    for video, pair in of_kind(pairs, 'event'):
        lit = [[item.flashes_at(t) for t in range(12)] for item in video.objects]
        shining = [i for i, row in enumerate(lit) if any(row)]
        assert all(any(all(lit[i][q:q + 3]) for q in range(0, 12, 3)) for i in shining)
        if pair.question == 'What flashes?':
            assert (listed(video, pair.answer) if shining else {}) == looks_of(video, shining)
        else:
            noun = pair.question[len('is there a'):].removeprefix('n').split(' that ')[0]
            assert (pair.answer == 'yes') == bool({*shining} & {*named(video, noun)}), pair


def test_order_and_counts(pairs):
    for video, pair in of_kind(pairs, 'order'):
        if pair.question.startswith('which'):
            late = [i for i in range(len(video.objects)) if not video.masks[i, :3].any()]
            assert late and listed(video, pair.answer) == looks_of(video, late)
            assert all(video.masks[i, 9:].any(axis=(1, 2)).all() for i in late)
            continue
        places = pair.answer.split(' is ')[1].split(' then ')
        assert len({*places}) == 2 and {*places} <= {*PLACES.values()}
    kinds = {pair.question.split()[0] for _, pair in of_kind(pairs, 'order')}
    assert kinds == {'which', 'Where'}
    for video, pair in of_kind(pairs, 'count'):
        noun = pair.question[len('how many '):-len(' are there?')]
        assert pair.answer.split()[0] == NUMBERS[len(named(video, noun))], pair
    for video, pair in of_kind(pairs, 'existence'):
        noun = pair.question[len('is there a'):-1].removeprefix('n')
        assert (pair.answer == 'yes') == bool(named(video, noun)), pair


def test_looks_and_captions(pairs):
    for video, pair in of_kind(pairs, 'looks'):
        if 'bigger' in pair.question:
            one, two = (named(video, name.split()[-2] + ' ' + name.split()[-1].rstrip('?'))
                        if name.split()[-2] in COLOURS else named(video, name.split()[-1][:-1])
                        for name in pair.question[3:].split(' bigger, or '))
            best = max(one + two, key=lambda i: video.objects[i].diameter)
            assert video.objects[best].shape in pair.answer
            continue
        noun = pair.question.split()[1 if pair.question.startswith('which') else -1].rstrip('?')
        members = named(video, noun)
        assert listed(video, pair.answer) == looks_of(video, members), pair
    for video, pair in of_kind(pairs, 'caption'):
        assert listed(video, pair.answer) == looks_of(video, range(len(video.objects)))
        for item in video.objects:
            assert f'{item.colour} {item.shape}' in pair.answer


def test_the_tiny_tokenizer_has_the_words(pairs):
    tokenizer = SegTokenizer.from_pretrained('tiny')
    lengths = {'question': [], 'answer': []}
    for _, pair in pairs:
        for name, found in lengths.items():
            ids = tokenizer.encode(getattr(pair, name))
            assert tokenizer.pad_id not in ids, 'the id of <unk>'
            found.append(len(ids))
    assert max(lengths['question']) <= 20 and max(lengths['answer']) <= 70
    assert np.mean(lengths['question']) < 10 and np.mean(lengths['answer']) < 6
    words = {word for _, pair in pairs for text in (pair.question, pair.answer)
             for word in text.replace('?', '').replace(',', '').split()}
    assert len(words - set(COLOURS) - set(SHAPES) - {f'{s}s' for s in SHAPES}) <= 60


def test_a_sample_has_every_kind_and_both_answers(videos):
    answers = []
    for i, video in enumerate(videos):
        chosen = sample_talk(video.objects, video.frames.shape[1:3], np.random.default_rng(i), 24)
        assert len(chosen) == 24 == len({pair.question for pair in chosen})
        assert {'caption', 'count', 'existence'} <= {pair.kind for pair in chosen} <= set(QUOTAS)
        answers += [pair.answer for pair in chosen if pair.kind in ('motion', 'relation')]
    share = answers.count('yes') / (answers.count('yes') + answers.count('no'))
    assert 0.4 < share < 0.6
    moving = [a for a in answers if ' moves ' in a]
    for direction in ('left', 'right', 'up', 'down'):
        assert 0.1 < np.mean([a.endswith(direction) for a in moving]) < 0.45


def test_the_file_is_determined_and_changes_no_other(tmp_path):
    plain = write_split(tmp_path / 'plain', 3, 5, 'train', mp4=False)
    first = write_split(tmp_path / 'first', 3, 5, 'train', mp4=False, talk=8)
    second = write_split(tmp_path / 'second', 2, 5, 'train', mp4=False, talk=8)
    for name in ('meta_expressions.json', 'mask_dict.json'):
        assert (plain / name).read_bytes() == (first / name).read_bytes()
    assert not (plain / 'talk.json').exists()
    entries = json.loads((first / 'talk.json').read_text())
    assert entries[:2] == json.loads((second / 'talk.json').read_text())
    assert [len(entry['conversations']) for entry in entries] == [16] * 3
    assert entries[0]['video'] == f'JPEGImages/{entries[0]["id"]}'
    values = [message['value'] for entry in entries for message in entry['conversations'][::2]]
    assert [value.startswith('<video>\n') for value in values] == ([True] + [False] * 7) * 3
