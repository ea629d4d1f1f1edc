"""Answers in words to a place in the video, strictly; questions, frames that are shown."""

import pytest

from glus_mm.models.selectors.moment_answer import (
    QUESTIONS,
    UNITS,
    frame_at,
    parse_moment,
    shown_frames,
)

# By unit and the length of the video in it: answers and the places that they name.
SAID = {
    ('percent', 99): {
        '40%': 0.4, '40': 0.4, ' 40. ': 0.4, 'The 30% mark.': 0.3, 'Check 12.5 % please': 0.125,
        'It is at 50 percent of the video, so 50%.': 0.5, '0%': 0.0, '100%': 1.0,
        'The last 20%': 0.8, 'in the LAST 0 Per cent': 1.0, '\n70%</p>': 0.7},
    ('frame', 11): {
        'frame 1': 0, 'Frame number 5': 0.4, 'frame #11': 1, 'The 3rd frame.': 0.2, '7': 0.6,
        'frame no. 4, yes frame 4': 0.3, 'frames 9': 0.8},
    ('frame', 1): {'frame 1': 0},
    ('time', 80): {
        '5 s': 5 / 80, '5.5 seconds': 5.5 / 80, 'at second 7': 7 / 80, '0:09': 9 / 80,
        '1:05.5': 65.5 / 80, '80sec': 1, '12': 12 / 80},
}
UNCLEAR = {
    ('percent', 99): [
        '', 'the middle', 'percent', '101%', '1000%', '-20%', '20-30%', '20% to 30%',
        'between 20 and 30%', '0%, 10%, 20%', '40% or 50%', '40% and the last 40%', 'frame 3',
        '3 seconds', '2 dogs at 40%', 'version 1.40.2%', '50 percentile', '9' * 5000,
        f'{"9" * 400}%', 'nan%', 'inf', '4 0%', '-20'],
    ('frame', 11): [
        'frame 0', 'frame 12', 'frame 3.5', '3.5', 'frame 3 of 11', 'frames 3 and 4', 'frame 3-4',
        '30%', 'the first frame', 'a frame', 'frame 12345678901', 'keyframes3'],
    ('time', 80): [
        '81 s', '1:75', '1:2:03', '0:10-0:20', '5 to 6 seconds', 'a second', '40%', '-5 s',
        'frame 4'],
}


def test_answers_name_a_place_or_none():
    found = {key: {answer: parse_moment(answer, *key) for answer in answers}
             for key, answers in SAID.items()}
    assert found == {key: pytest.approx(answers) for key, answers in SAID.items()}
    assert [(answer, *key) for key, answers in UNCLEAR.items() for answer in answers
            if parse_moment(answer, *key) is not None] == []


def test_every_unit_has_a_question():
    assert set(QUESTIONS) == set(UNITS)
    assert all(text.count('{x}') == 1 for text in QUESTIONS.values())


def test_shown_frames():
    assert shown_frames(3, 8) == [0, 1, 2] and shown_frames(8, 8) == list(range(8))
    assert shown_frames(9, 3) == [0, 4, 8] and shown_frames(9, 1) == [0]
    for limit in (2, 5, 64):
        frames = shown_frames(1000, limit)
        assert len(set(frames)) == limit and (frames[0], frames[-1]) == (0, 999)


def test_frame_at():
    assert [frame_at([p], 11) for p in (0, 0.04, 0.05, 0.5, 1)] == [0, 0, 1, 5, 10]
    assert frame_at([0.2, 0.4], 11) == 3 and frame_at([0.7], 1) == 0
