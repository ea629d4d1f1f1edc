"""Lists of videos: what a line may hold, and what a test cannot use."""

import json

import cv2
import numpy as np
import pytest

from glus_mm.datasets.video_list import VideoListDataset, VideoRequest, read_requests


@pytest.fixture
def clip(tmp_path):
    (tmp_path / 'clip').mkdir()
    for t in range(3):
        cv2.imwrite(str(tmp_path / 'clip' / f'{t + 9}.png'), np.zeros((8, 8, 3), np.uint8))
    return tmp_path / 'clip'


def write_list(path, *lines):
    path.write_text('\n'.join(line if isinstance(line, str) else json.dumps(line)
                              for line in lines))
    return path


def test_lines(clip, tmp_path):
    (tmp_path / 'v1.0').mkdir()
    path = write_list(
        tmp_path / 'l.jsonl', dict(video=str(clip), texts=['a', 'b']), '',
        dict(video='clips/cat.v2.mp4', texts='the cat', key_frames=[3], id='the cat'),
        dict(video=str(tmp_path / 'v1.0'), texts=['c']),
        dict(video='https://example.org/film.mp4', texts=['e']),
        '{"video": "d.mp4", "texts": ["one\u2028two"]}\r')
    assert read_requests(path) == [
        VideoRequest('clip', str(clip), ('a', 'b')),
        VideoRequest('the cat', 'clips/cat.v2.mp4', ('the cat', ), (3, )),
        VideoRequest('v1.0', str(tmp_path / 'v1.0'), ('c', )),
        VideoRequest('film', 'https://example.org/film.mp4', ('e', )),
        VideoRequest('d', 'd.mp4', ('one\u2028two', ))]
    assert [request.estimate() for request in read_requests(path)] == [6, 1, 1, 1, 1]


@pytest.mark.parametrize(('line', 'match'), [
    ('{"video": "a"', 'expected JSON'),
    ('[1]', 'expected an object'),
    (dict(texts=['a']), '"video" to be a path, got None'),
    (dict(video='a'), '"texts" to be a list of strings, got None'),
    (dict(video='a', texts=[]), r'"texts" to be a list of strings, got \[\]'),
    (dict(video='a', texts=['b', 3]), '"texts" to be a list of strings'),
    (dict(video='a', texts=['b'], key_frame=3), r"expected keys .*got \['key_frame'\]"),
    (dict(video='a', texts=['b'], key_frames=[1, 2]), '"key_frames" to be a list of 1 positions'),
    (dict(video='a', texts=['b'], key_frames=[-1]), '"key_frames" to be a list of 1 positions'),
    (dict(video='a', texts=['b'], id='../b'), '"id" that can be the name of a folder'),
    (dict(video='a', texts=['b'], id='..'), '"id" that can be the name of a folder'),
    (dict(video='x/first.mp4', texts=['b']), "ids that differ, got 'first' as in line 1"),
    ('[' * 100_000, 'nested too deeply'),
    ('{"video": "a\\ud800", "texts": ["b"]}', 'expected valid Unicode'),
    ('{"video": "a", "texts": ["b"], "texts": ["c"]}', "the key 'texts' occurs twice"),
    (dict(video='x' * 5000, texts=['b']), 'of 5000 characters'),
    ('{"video": "a", "texts": ["b"], "key_frames": [1' + '0' * 5000 + ']}', 'digits'),
])
def test_lines_that_cannot_be_used(tmp_path, line, match):
    path = write_list(tmp_path / 'l.jsonl', dict(video='first', texts=['a']), line)
    with pytest.raises(ValueError, match=f'1 line of .*l.jsonl .*used:\n  line 2: .*{match}'):
        read_requests(path)


def test_lists_that_cannot_be_used(tmp_path):
    with pytest.raises(FileNotFoundError, match='got no file: .*none.jsonl'):
        read_requests(tmp_path / 'none.jsonl')
    with pytest.raises(ValueError, match='at least one video'):
        read_requests(write_list(tmp_path / 'empty.jsonl', '', ''))
    (tmp_path / 'binary').write_bytes(b'\xff\xfe\x00')
    with pytest.raises(ValueError, match='no UTF-8 text'):
        read_requests(tmp_path / 'binary')
    with pytest.raises(ValueError, match='(?s)10 lines .*line 8: .*\n  and 2 more'):
        read_requests(write_list(tmp_path / 'bad', *['{'] * 10))


def test_what_a_test_cannot_use_is_named(clip, tmp_path, write_video):
    def load(line, **options):
        return VideoListDataset(ann_file=str(write_list(tmp_path / 'l.jsonl', line)),
                                **dict(dict(test_mode=True), **options))

    with pytest.raises(FileNotFoundError, match=r"l.jsonl: video 'none': .*nothing at .*none.mp4"):
        load(dict(video=str(tmp_path / 'none.mp4'), texts='a'))
    (tmp_path / 'text.mp4').write_text('no film')
    with pytest.raises(ValueError, match=r"l.jsonl: video 'text': .*text.mp4"):
        load(dict(video=str(tmp_path / 'text.mp4'), texts='a'))
    noise = list(np.random.default_rng(0).integers(0, 255, (9, 48, 64, 3), np.uint8))
    cut = write_video(tmp_path / 'cut.mp4', noise, container_options=dict(movflags='faststart'))
    cut.write_bytes(cut.read_bytes()[:-20_000])
    with pytest.raises(ValueError, match=r"video 'cut': .*cut.mp4 breaks off: .* 9 frames, but"):
        load(dict(video=str(cut), texts='a'))
    with pytest.raises(ValueError, match=r"video 'clip', key 'key_frames': .* below 3, .* got 3"):
        load(dict(video=str(clip), texts='a', key_frames=[3]))
    with pytest.raises(ValueError, match=r"video 'clip', expression '1', key 'exp': .*SEG"):
        load(dict(video=str(clip), texts=['a', 'the [SEG]']))
    with pytest.raises(ValueError, match='test_mode=True'):
        load(dict(video=str(clip), texts='a'), test_mode=False)
