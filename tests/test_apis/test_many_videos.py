"""Lists of videos: what a line may hold, results that survive a kill, errors of one video."""

import json
import os

import cv2
import numpy as np
import pytest
import torch

from glus_mm.apis import GLUSInferencer
from glus_mm.apis.many_videos import (
    VideoListSegmenter,
    VideoRequest,
    holds_results,
    read_requests,
)
from glus_mm.engine.finished_videos import FinishedVideos


@pytest.fixture
def folders(tmp_path, frames):
    """Three videos: whole, with a frame of another size, and with nothing in it."""
    for name in ('whole', 'broken', 'empty'):
        (tmp_path / name).mkdir()
    for t, frame in enumerate(frames[:3]):
        cv2.imwrite(str(tmp_path / 'whole' / f'{t}.png'), frame[..., ::-1])
        cv2.imwrite(str(tmp_path / 'broken' / f'{t}.png'), frame[:40] if t == 2 else frame)
    return tmp_path


def write_list(path, *lines):
    path.write_text('\n'.join(line if isinstance(line, str) else json.dumps(line)
                              for line in lines))
    return path


def test_lines(folders, tmp_path):
    (tmp_path / 'v1.0').mkdir()
    path = write_list(
        tmp_path / 'l.jsonl', dict(video=str(folders / 'whole'), texts=['a', 'b']), '',
        dict(video='clips/cat.v2.mp4', texts='the cat', key_frames=[3], id='the cat'),
        dict(video=str(tmp_path / 'v1.0'), texts=['c']))
    assert read_requests(path) == [
        VideoRequest('whole', str(folders / 'whole'), ('a', 'b')),
        VideoRequest('the cat', 'clips/cat.v2.mp4', ('the cat', ), (3, )),
        VideoRequest('v1.0', str(tmp_path / 'v1.0'), ('c', ))]
    assert [request.estimate() for request in read_requests(path)] == [6, 1, 1]


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
])
def test_lines_that_cannot_be_used(tmp_path, line, match):
    path = write_list(tmp_path / 'l.jsonl', dict(video='first', texts=['a']), line)
    with pytest.raises(ValueError, match=f'1 line of .*l.jsonl .*used:\n  line 2: .*{match}'):
        read_requests(path)


@pytest.mark.parametrize(('line', 'match'), [
    ('[' * 100_000, 'nested too deeply'),
    ('{"video": "a\\ud800", "texts": ["b"]}', 'expected valid Unicode'),
    ('{"video": "a", "texts": ["b"], "texts": ["c"]}', "the key 'texts' occurs twice"),
    (json.dumps(dict(video='x' * 5000, texts=['b'])), 'of 5000 characters'),
    ('{"video": "a", "texts": ["b"], "key_frames": [1' + '0' * 5000 + ']}', 'digits')])
def test_hostile_lines(tmp_path, line, match):
    path = tmp_path / 'l.jsonl'
    path.write_text(json.dumps(dict(video='first', texts=['a'])) + f'\n{line}\n')
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


def test_what_a_kill_leaves_are_results(tmp_path):
    assert not holds_results(tmp_path)
    path = FinishedVideos(tmp_path / '.results').add('', 'b', '', dict(id='b', status='done'))
    assert holds_results(tmp_path)
    path.write_bytes(path.read_bytes()[:20])
    assert not holds_results(tmp_path), 'half a file'
    (tmp_path / 'results.jsonl').touch()
    assert holds_results(tmp_path), 'those of an earlier version'


def test_errors_are_recorded_and_the_others_go_on(model, folders, tmp_path):
    out = tmp_path / 'out'
    requests = [VideoRequest('none', str(folders / 'none.mp4'), ('the red box', )),
                VideoRequest('empty', str(folders / 'empty'), ('the red box', )),
                VideoRequest('text', str(folders / 'whole'), ('the red box', ' ')),
                VideoRequest('broken', str(folders / 'broken'), ('the red box', )),
                VideoRequest('late', str(folders / 'whole'), ('the red box', ), (3, )),
                VideoRequest('whole', str(folders / 'whole'), ('the red box', 'the sky'))]
    seen = []
    segmenter = VideoListSegmenter(GLUSInferencer(model), out)
    results = segmenter.run(requests, progress=seen.append)
    assert list(results) == [request.id for request in requests] and len(seen) == 6
    errors = {name: record['error'] for name, record in results.items()
              if record['status'] == 'error'}
    assert list(errors) == ['none', 'empty', 'text', 'broken', 'late']
    for name, part in dict(none='FileNotFoundError: ', empty='a folder with images',
                           text=r'texts[1]: ', broken='frame 2 (2)', late='0..2').items():
        assert part in errors[name]
    assert results['broken']['frame'] == 2 and results['broken']['masks'] == 'masks/broken'
    assert results['whole']['frames'] == 3 and results['whole']['key_frames'] == [0, 0]
    assert len(results['whole']['frames_without_seg']) == 2
    files = sorted(str(path.relative_to(out / 'masks')) for path in out.rglob('whole/*/*.png'))
    assert files == [f'whole/{e}/{t}.png' for e in range(2) for t in range(3)]


def test_resume_keeps_what_is_done_and_asks_for_the_same(model, folders, tmp_path):
    def run(fingerprint='a', texts=('the red box', ), broken=True):
        requests = [VideoRequest('whole', str(folders / 'whole'), texts),
                    VideoRequest('broken', str(folders / 'broken'), texts)]
        seen = []
        segmenter = VideoListSegmenter(GLUSInferencer(model), tmp_path / 'out', 'rle', fingerprint)
        results = segmenter.run(requests, resume=True, progress=lambda r: seen.append(r['id']))
        assert json.loads(segmenter.path.read_text().splitlines()[0]) == results['whole']
        return seen, results

    seen, first = run()
    assert seen == ['whole', 'broken'] and first['broken']['status'] == 'error'
    seen, second = run()
    assert seen == ['broken'] and second['whole'] == first['whole'], 'errors are tried again'
    cv2.imwrite(str(folders / 'broken' / '2.png'), np.zeros((48, 64, 3), np.uint8))
    seen, third = run()
    assert seen == ['broken'] and third['broken']['status'] == 'done'
    assert run()[0] == []
    changed = folders / 'broken' / '1.png'
    os.utime(changed, (1, 1))  # a frame that was changed in place
    assert run()[0] == ['broken'] and run()[0] == []
    assert run(texts=('the sky', ))[0] == ['whole', 'broken']
    assert run(fingerprint='b')[0] == ['whole', 'broken']


def test_rle_is_what_the_inferencer_gives(model, folders, tmp_path):
    texts = ('the red box', 'the sky')
    request = VideoRequest('clip', str(folders / 'whole'), texts, (1, 0))
    VideoListSegmenter(GLUSInferencer(model), tmp_path / 'out', 'rle').run([request])
    expected = GLUSInferencer(model)(folders / 'whole', texts, [1, 0])
    path = tmp_path / 'out' / 'masks' / 'clip.jsonl'
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(lines) == 6
    for line in lines:
        e, t = line['exp'], line['frame']
        assert dict(size=line['size'], counts=line['counts']) == expected['masks'][e].rles[t]
        assert line['name'] == str(t)
        assert line['score'] == pytest.approx(expected['scores'][e, t], abs=1e-6)


def test_memory_that_does_not_suffice_is_one_videos_error(model, folders, tmp_path):

    class Greedy:

        def select(self, reader, data_sample):
            return torch.empty(1 << 60)

    request = VideoRequest('whole', str(folders / 'whole'), ('a', 'b'))
    results = VideoListSegmenter(GLUSInferencer(model, Greedy()), tmp_path / 'out').run([request])
    assert 'max_expressions below 2' in results['whole']['error']


def test_format(model, tmp_path):
    with pytest.raises(ValueError, match="format must be one of .*got 'jpg'"):
        VideoListSegmenter(GLUSInferencer(model), tmp_path, 'jpg')
