"""Segmenting lists of videos: results that survive a kill, errors of one video."""

import json
import os

import cv2
import numpy as np
import pytest
import torch
from mmengine import Config
from mmengine.dataset import pseudo_collate

from glus_mm.apis import GLUSInferencer
from glus_mm.apis.many_videos import VideoListSegmenter, holds_results
from glus_mm.datasets.video_list import VideoRequest, read_requests
from glus_mm.engine.finished_videos import FinishedVideos
from glus_mm.registry import DATASETS, METRICS, build_child
from glus_mm.utils.video_writer import OverlayVideoWriter
from programs import ROOT

CONFIG = ROOT / 'configs/glus/glus_tiny_video-list.py'


@pytest.fixture
def folders(tmp_path, frames):
    """Three videos: whole, with a frame of another size, and with nothing in it."""
    for name in ('whole', 'broken', 'empty'):
        (tmp_path / name).mkdir()
    for t, frame in enumerate(frames[:3]):
        cv2.imwrite(str(tmp_path / 'whole' / f'{t}.png'), frame[..., ::-1])
        cv2.imwrite(str(tmp_path / 'broken' / f'{t}.png'), frame[:40] if t == 2 else frame)
    return tmp_path


def test_results_of_a_kill_and_formats(tmp_path, model):
    assert not holds_results(tmp_path)
    path = FinishedVideos(tmp_path / '.results').add('', 'b', '', dict(id='b', status='done'))
    assert holds_results(tmp_path)
    path.write_bytes(path.read_bytes()[:20])
    assert not holds_results(tmp_path), 'half a file'
    (tmp_path / 'results.jsonl').touch()
    assert holds_results(tmp_path), 'those of an earlier version'
    with pytest.raises(ValueError, match="format must be one of .*got 'jpg'"):
        VideoListSegmenter(GLUSInferencer(model), tmp_path, 'jpg')


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
    (tmp_path / 'out' / 'masks' / 'whole.jsonl').unlink()
    assert run()[0] == ['whole'] and run()[0] == [], 'masks that are gone'
    assert run(texts=('the sky', ))[0] == ['whole', 'broken']
    assert run(fingerprint='b')[0] == ['whole', 'broken']


def test_memory_that_does_not_suffice_is_one_videos_error(model, folders, tmp_path):

    class Greedy:

        def select(self, reader, data_sample):
            return torch.empty(1 << 60)

    request = VideoRequest('whole', str(folders / 'whole'), ('a', 'b'))
    results = VideoListSegmenter(GLUSInferencer(model, Greedy()), tmp_path / 'out').run([request])
    assert 'max_expressions below 2' in results['whole']['error']


def test_a_list_is_a_data_set_of_a_test(model, folders, frames, tmp_path, monkeypatch):
    film = OverlayVideoWriter(tmp_path / 'film.mp4', 10)
    for frame in frames[:4]:
        film.write(frame)
    film.close()
    path = tmp_path / 'l.jsonl'
    path.write_text('\n'.join(json.dumps(line) for line in (
        dict(video=str(folders / 'whole'), texts=['the red box', 'the sky'], key_frames=[1, 0]),
        dict(video=str(tmp_path / 'film.mp4'), texts='the sky.', id='a film'))))
    monkeypatch.chdir(tmp_path)
    cfg = Config.fromfile(CONFIG)
    part = cfg.test_dataloader.dataset.to_dict()
    dataset = build_child(DATASETS, dict(
        part, ann_file=str(path),
        pipeline=[dict(step, type=f'glus_mm.{step["type"]}') for step in part['pipeline']]))
    metric = build_child(METRICS, cfg.test_evaluator.to_dict())
    assert [item['video_id'] for item in map(dataset.get_data_info, range(2))] == [
        'whole', 'a film']
    for i, request in enumerate(read_requests(path)):
        samples = model.test_step(pseudo_collate([dataset[i]]))
        metric.process({}, [sample.to_dict() for sample in samples])
        expected = GLUSInferencer(model)(request.video, request.texts, request.key_frames)
        assert samples[0].key_frame_ids == expected['key_frames']
        assert samples[0].frame_names == tuple(expected['frame_names'])
        for e, masks in enumerate(expected['masks']):
            assert samples[0].pred_masks[e] == masks.rles
            for name, mask in zip(expected['frame_names'], masks):
                png = cv2.imread(f'outputs/video_list/{request.id}/{e}/{name}.png', -1)
                assert np.array_equal(png > 0, mask)
