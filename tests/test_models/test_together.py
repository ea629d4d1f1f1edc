"""Several videos at once: the masks are those of one by one, whatever joins, ends or fails."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from glus_mm.apis import GLUSInferencer
from glus_mm.models.inference import ArrayReader
from glus_mm.models.inference.together import Video, Work, together
from glus_mm.structures import RefVOSDataSample

TEXTS = ('the red circle', 'the big blue square that moves to the left', 'all stars')


@pytest.fixture(scope='module')
def videos(video):
    """Videos of other lengths, sizes, expressions and key frames."""
    rng = np.random.default_rng(1)
    small = [rng.integers(0, 255, (24, 40, 3), dtype=np.uint8) for _ in range(5)]
    return [(video, TEXTS[:1], [0]), (small, TEXTS, [3, 0, 4]), (video[2:], TEXTS[1:2], [2]),
            (small[::-1], TEXTS[:2], [0, 0]), (video[:3], TEXTS[2:], [0]),
            (video[:1], TEXTS[1:2], [0])]


@pytest.fixture(scope='module')
def talking(talking):
    """With a window that is shorter than most of the videos."""
    return lambda options=None, always=True: talking(
        {'test_cfg.window': 3, **(options or {})}, always=always)


def one_by_one(model, videos):
    found, calls = {}, []
    handle = count_calls(model, calls)
    for i, (frames, texts, keys) in enumerate(videos):
        session = model.init_session(ArrayReader(frames), sample_of(texts))
        for t, exps, pred in model.segment(session, keys):
            for row, e in enumerate(exps):
                found[i, e, t] = (pred.low_res_logits[row], pred.seg_tokens[row], pred.masks[row],
                                  pred.is_seg[row], pred.scores[row], pred.presence[row])
    handle.remove()
    return found, len(calls)


def count_calls(model, calls):
    return model.mllm.llm.register_forward_pre_hook(lambda *_: calls.append(1))


def at_once(model, videos, max_tracks):
    model.test_cfg = replace(model.test_cfg, max_tracks=max_tracks)
    found, ended, calls = {}, [], []

    def opened(frames, texts, keys):
        return model.init_session(ArrayReader(frames), sample_of(texts)), keys

    handle = count_calls(model, calls)
    for i, item in model.segment_together(
            (i, len(texts), lambda video=(frames, texts, keys): opened(*video))
            for i, (frames, texts, keys) in enumerate(videos)):
        if item is None:
            ended.append(i)
            continue
        t, exps, pred = item
        for row, e in enumerate(exps):
            found[i, e, t] = (pred.low_res_logits[row], pred.seg_tokens[row], pred.masks[row],
                              pred.is_seg[row], pred.scores[row], pred.presence[row])
    handle.remove()
    return found, ended, len(calls)


def sample_of(texts):
    return RefVOSDataSample(metainfo=dict(
        dataset='toy', video_id='video', expressions=tuple(texts),
        exp_ids=tuple(str(e) for e in range(len(texts)))))


@pytest.mark.parametrize('options', [
    {}, {'test_cfg.window_cache': 'turns'}, {'test_cfg.window_stride': 2},
    {'test_cfg.max_expressions': 2}, {'test_cfg.use_memory': False},
    {'existence': 'answer'}, {'existence': 'answer', 'test_cfg.window_cache': 'turns'}], ids=str)
@torch.inference_mode()
def test_masks_are_those_of_one_by_one(talking, videos, options):
    model = talking(options, always='existence' not in options)
    expected, calls_before = one_by_one(model, videos)
    found, ended, calls = at_once(model, videos, 5)
    assert found.keys() == expected.keys() and sorted(ended) == list(range(len(videos)))
    for key, values in expected.items():
        for mine, theirs in zip(found[key], values):
            torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-9, equal_nan=True)
        assert torch.equal(found[key][2], values[2])
    assert calls < calls_before


@torch.inference_mode()
def test_one_at_a_time_by_default(talking, videos):
    model = talking()
    found, ended, _ = at_once(model, videos, 1)
    assert ended == list(range(len(videos)))
    assert list(dict.fromkeys(i for i, _, _ in found)) == ended


@torch.inference_mode()
def test_predict_takes_a_batch(talking, videos, make_sample):
    model = talking({'test_cfg.max_tracks': 4})

    def results(batches):
        out = []
        for batch in batches:
            samples = [make_sample(texts) for _, texts, _ in batch]
            out += model.predict(dict(reader=[ArrayReader(frames) for frames, _, _ in batch]),
                                 samples)
        return [(sample.pred_masks, sample.pred_seg.tolist(), sample.key_frame_ids)
                for sample in out]

    assert results([videos]) == results([[video] for video in videos])


def test_one_video_that_fails_leaves_the_others_alone(talking, videos, tmp_path):
    model = talking({'test_cfg.max_tracks': 8})

    class Breaks(ArrayReader):

        def _read(self, frame_idx):
            if frame_idx == 2:
                raise ValueError('torn')
            return super()._read(frame_idx)

    requests = [dict(video=frames, texts=list(texts), key_frames=keys)
                for frames, texts, keys in videos]
    requests.insert(1, dict(video=Breaks(videos[0][0]), texts='a star'))
    requests.insert(2, dict(video=str(tmp_path / 'none.mp4'), texts='a star'))
    requests.insert(3, dict(video=videos[0][0], texts=['a star', ' ']))
    requests += [dict(video=videos[0][0], texts='a star', out_dir=tmp_path)] * 2
    requests.append(dict(video=videos[0][0]))
    inferencer = GLUSInferencer(model)
    results = dict(inferencer.many(iter(requests)))
    assert sorted(results) == list(range(len(requests)))
    assert isinstance(results[2], FileNotFoundError) and 'texts[1]' in str(results[3])
    torn = results[1]
    assert torn.frame_idx == 2 and 'torn' in str(torn)
    assert torn.result['masks'][0].rles[:3].count(None) == 1
    *_, first, second, without = map(results.get, range(len(requests)))
    assert len(first) == len(videos[0][0]) and 'different names for one out_dir' in str(second)
    assert "'texts'" in str(without)
    for i, request in enumerate(requests[:-3]):
        if i not in (1, 2, 3):
            alone = inferencer(**request)
            for mine, theirs in zip(results[i]['masks'], alone['masks']):
                assert mine.rles == theirs.rles
            np.testing.assert_allclose(results[i]['scores'], alone['scores'], rtol=1e-6)


def test_what_waits_is_batched_and_room_is_kept():
    """The scheduler alone, on steps without a model."""
    log, open_now = [], []

    def run(batch):
        log.append((stage_of[0], sorted(batch)))
        if 'bad' in batch and len(batch) > 1:
            raise RuntimeError('all of them')
        return [f'{name}!' for name in batch]

    stage_of = [0]

    def steps(name, frames):
        open_now.append(name)
        try:
            for t in range(frames):
                for stage in (0, 1):
                    answer = yield Work(stage, None, 1, run, name)
                    assert answer == f'{name}!'
                yield t, [0], name
        finally:
            open_now.remove(name)

    seen = []
    for name, item in together(
            (Video(name, tracks, steps(name, frames)) for name, tracks, frames in (
                ('a', 2, 3), ('b', 1, 1), ('c', 2, 2), ('d', 9, 1), ('e', 1, 1))), 4, 2):
        seen.append((name, item and item[0]))
        assert len(open_now) <= 3
    assert [name for name, item in seen if item is None] == ['b', 'c', 'a', 'd', 'e'] or \
        {name for name, item in seen if item is None} == set('abcde')
    assert [batch for _, batch in log][:2] == [['a', 'b'], ['a', 'b']]
    assert all(len(batch) <= 2 for _, batch in log) and ['d'] in [batch for _, batch in log]
    assert not open_now

    results = together((Video(name, 1, steps(name, 2)) for name in ('good', 'bad')), 2, 2)
    assert {name: str(item) for name, item in results} == dict.fromkeys(
        ('good', 'bad'), 'all of them')
    going = together((Video(name, 1, steps(name, 9)) for name in 'xyz'), 3, 3)
    assert len(list(itertools.islice(going, 2))) == 2 and sorted(open_now) == list('xyz')
    going.close()
    assert not open_now
