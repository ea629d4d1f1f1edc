"""Files of scores and key frames: layouts, and what is wrong with a file."""

import json

import numpy as np
import pytest

from glus_mm.utils.key_frames import (
    KeyFrameFile,
    MissingEntryError,
    ScoreFile,
    best_frame,
    open_scores,
)

# Every fifth frame, as in Ref-YouTube-VOS: a frame's number is not its position.
NAMES = ['00000', '00005', '00010', '00015']
SCORES = dict(format='glus_mm.frame_scores', dataset='toy', videos={
    'a': dict(frames=NAMES, expressions={'0': [0.1, 0.7, None, 0.7], '1': [None] * 4})})


@pytest.fixture
def write(tmp_path):
    def write(content, name='file.json'):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path
    return write


@pytest.mark.parametrize(('scores', 'frame'), [
    ([0.2, 0.9, 0.1], 1), ([0.5, 0.9, 0.9, 0.1], 2), ([0.0, 0.0], 1), ([3.0], 0),
    ([np.nan, -2.0, np.nan, -3.0], 1), ([np.nan] * 4, 2), ([np.nan] * 5, 2), ([np.nan], 0)])
def test_the_best_frame(scores, frame):
    """The later one of equal scores; the middle frame without scores."""
    assert best_frame(scores) == frame


def test_no_frame_and_no_file(tmp_path):
    with pytest.raises(ValueError, match='at least one frame'):
        best_frame([])
    with pytest.raises(FileNotFoundError, match='nothing'):
        KeyFrameFile(tmp_path / 'nothing.json')
    with pytest.raises(FileNotFoundError, match='nothing'):
        open_scores(tmp_path / 'nothing.json')


def test_official_numbers_are_those_of_files(write):
    file = KeyFrameFile(write({'a_0': 10, 'a_1': '15'}))
    assert file.frame_id('toy', 'a', '0', NAMES) == 2
    assert file.frame_id('toy', 'a', '1', NAMES) == 3
    assert file.frame_scores('toy', 'a', '0', NAMES) is None
    with pytest.raises(MissingEntryError, match=r"'a', expression '0'.* 0\.\.3, got 10"):
        file.frame_id('toy', 'a', '0', ['00000', '00001', '00002', '00003'])
    with pytest.raises(MissingEntryError, match="entry 'b_0', got none among 2"):
        file.frame_id('toy', 'b', '0', NAMES)
    with pytest.raises(ValueError, match="names are numbers.* got 'img'"):
        file.frame_id('toy', 'a', '0', ['img'])


def test_own_layout_names_frames(write):
    file = KeyFrameFile(write(dict(format='glus_mm.key_frames', dataset='toy', key_frames={
        'a': {'0': '00015', '1': '00001'}})))
    assert file.frame_id('toy', 'a', '0', NAMES) == file.frame_id(None, 'a', '0', NAMES) == 3
    with pytest.raises(MissingEntryError, match="one of the 4 frames .* got '00001'"):
        file.frame_id('toy', 'a', '1', NAMES)
    for video, exp in (('a', '2'), ('b', '0')):
        with pytest.raises(MissingEntryError, match=f"'{video}', expression '{exp}'"):
            file.frame_id('toy', video, exp, NAMES)
    with pytest.raises(ValueError, match="data set 'mevis', got those of 'toy'") as error:
        file.frame_id('mevis', 'a', '0', NAMES)
    assert not isinstance(error.value, MissingEntryError)


def test_scores(write):
    file = KeyFrameFile(write(SCORES))
    assert file.frame_id('toy', 'a', '0', NAMES) == 3
    with pytest.raises(MissingEntryError, match="expression '1': expected a score of some frame"):
        file.frame_id('toy', 'a', '1', NAMES)
    assert np.array_equal(file.frame_scores('toy', 'a', '0', NAMES), [0.1, 0.7, np.nan, 0.7],
                          equal_nan=True)
    scores = ScoreFile(write(SCORES))
    with pytest.raises(ValueError, match="'mevis', got those of 'toy'"):
        scores.get('mevis', 'a', '0', NAMES)
    with pytest.raises(ValueError, match="its 3 frames '0'..'2', got 4, '00000'..'00015'"):
        scores.get('toy', 'a', '0', ['0', '1', '2'])
    with pytest.raises(MissingEntryError, match="video 'b', got 1 other"):
        scores.get('toy', 'b', '0', NAMES)
    with pytest.raises(MissingEntryError, match=r"expression '7', got \['0', '1'\]"):
        scores.get('toy', 'a', '7', NAMES)


def test_official_scores(write, tmp_path):
    write([0.25, 1, 0, 0.5], 'scores/a/0.json')
    write('[0.5, 1', 'scores/a/1.json')
    scores = open_scores(tmp_path / 'scores')
    assert scores.get('any', 'a', '0', NAMES).tolist() == [0.25, 1, 0, 0.5]
    assert KeyFrameFile(tmp_path / 'scores').frame_id('any', 'a', '0', NAMES) == 1
    with pytest.raises(ValueError, match=r'0\.json: expected a score for each of 1 frames.* 4'):
        scores.get('any', 'a', '0', NAMES[:1])
    with pytest.raises(ValueError, match=r'1\.json: expected a JSON list'):
        scores.get('any', 'a', '1', NAMES)
    with pytest.raises(MissingEntryError, match="'a', expression '2'"):
        scores.get('any', 'a', '2', NAMES)


@pytest.mark.parametrize(('content', 'message'), [
    ('{"a_0": 1', 'expected a JSON file'),
    ([1], 'expected a JSON object'),
    ({}, 'empty object'),
    ({'a_0': -1}, "'a_0': expected the number of a frame, got -1"),
    ({'a_0': True}, 'got True'),
    ({'a_0': 'first'}, "got 'first'"),
    (dict(format='other'), "got 'other'"),
    (dict(format='glus_mm.key_frames', key_frames={'a': {'0': 3}}), 'name of a frame'),
    (dict(format='glus_mm.frame_scores'), "object 'videos'"),
    (dict(SCORES, videos={'a': dict(frames=NAMES, expressions={'0': [1]})}),
     "'a', expression '0': expected a score for each of 4 frames, got 1"),
    (dict(SCORES, videos={'a': dict(frames=NAMES, expressions={'0': ['x'] * 4})}),
     'numbers and null'),
    *[('{"format": "glus_mm.frame_scores", "videos": {"a": {"frames": ["0"], "expressions": {"0": '
       f'[{number}]}}}}}}}}', "expression '0': expected finite numbers") for number in (
           'Infinity', '-Infinity', 'NaN', '1' + '0' * 400)]])
def test_broken_files(write, content, message):
    with pytest.raises(ValueError, match=message):
        KeyFrameFile(write(content))
