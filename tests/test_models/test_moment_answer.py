"""Answers in words to a place in the video, strictly; questions, frames that are shown."""

import pytest

from glus_mm.models.selectors.moment_answer import (
    QUESTIONS,
    UNITS,
    frame_at,
    parse_moment,
    shown_frames,
)


@pytest.mark.parametrize('answer, place', [
    ('40%', 0.4), ('40', 0.4), (' 40. ', 0.4), ('The 30% mark.', 0.3),
    ('Check 12.5 % please', 0.125), ('It is at 50 percent of the video, so 50%.', 0.5),
    ('0%', 0.0), ('100%', 1.0),
    ('The last 20%', 0.8), ('in the LAST 0 Per cent', 1.0), ('\n70%</p>', 0.7)])
def test_percent(answer, place):
    assert parse_moment(answer, 'percent', 99) == pytest.approx(place)


@pytest.mark.parametrize('answer', [
    '', 'the middle', 'percent', '101%', '1000%', '-20%', '20-30%', '20% to 30%',
    'between 20 and 30%', '0%, 10%, 20%', '40% or 50%', '40% and the last 40%', 'frame 3',
    '3 seconds', '2 dogs at 40%', 'version 1.40.2%', '50 percentile', '9' * 5000, f'{"9" * 400}%',
    'nan%', 'inf', '4 0%', '-20'])
def test_no_percent(answer):
    assert parse_moment(answer, 'percent', 99) is None


@pytest.mark.parametrize('answer, number', [
    ('frame 1', 1), ('Frame number 5', 5), ('frame #11', 11), ('The 3rd frame.', 3), ('7', 7),
    ('frame no. 4, yes frame 4', 4), ('frames 9', 9)])
def test_frame(answer, number):
    assert parse_moment(answer, 'frame', 11) == pytest.approx((number - 1) / 10)


@pytest.mark.parametrize('answer', [
    'frame 0', 'frame 12', 'frame 3.5', '3.5', 'frame 3 of 11', 'frames 3 and 4', 'frame 3-4',
    '30%', 'the first frame', 'a frame', 'frame 12345678901', 'keyframes3'])
def test_no_frame(answer):
    assert parse_moment(answer, 'frame', 11) is None


def test_the_only_frame():
    assert parse_moment('frame 1', 'frame', 1) == 0


@pytest.mark.parametrize('answer, seconds', [
    ('5 s', 5), ('5.5 seconds', 5.5), ('at second 7', 7), ('0:09', 9), ('1:05.5', 65.5),
    ('80sec', 80), ('12', 12)])
def test_time(answer, seconds):
    assert parse_moment(answer, 'time', 80) == pytest.approx(seconds / 80)


@pytest.mark.parametrize('answer', [
    '81 s', '1:75', '1:2:03', '0:10-0:20', '5 to 6 seconds', 'a second', '40%', '-5 s', 'frame 4'])
def test_no_time(answer):
    assert parse_moment(answer, 'time', 80) is None


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
