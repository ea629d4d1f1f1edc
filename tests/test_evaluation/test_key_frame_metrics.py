"""FrameIoUMetric and KeyFrameMetric: figures, files, interrupted tests."""

import json

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from glus_mm.evaluation import FrameIoUMetric, KeyFrameMetric
from glus_mm.evaluation.metrics.key_frame_metric import (
    key_frame_figures,
    write_official_key_frames,
)
from glus_mm.structures import RefVOSDataSample
from glus_mm.utils.key_frames import KeyFrameFile, open_scores
from glus_mm.utils.masks import encode_mask

NAMES = ('00000', '00005', '00010')


def make_sample(video_id='a', dataset='toy', **fields):
    return RefVOSDataSample(
        metainfo=dict(dataset=dataset, video_id=video_id, exp_ids=('0', '1'), kinds=('x', None),
                      expressions=('one', 'none'), object_ids=(('1', ), ()), frame_names=NAMES,
                      ori_shape=(4, 4)), **fields)


def masked(video_id='a', dataset='toy'):
    """Expression 0 is absent in frame 0; half of it is found in frame 1, all in frame 2."""
    def row(*widths):
        masks = []
        for width in widths:
            mask = np.zeros((4, 4), bool)
            mask[:, :width] = True
            masks.append(encode_mask(mask))
        return masks
    return make_sample(video_id, dataset, gt_rles=[row(0, 2, 3), row(0, 0, 0)],
                       pred_masks=[row(0, 1, 3), row(0, 0, 1)])


@pytest.mark.parametrize(('absent', 'expected'), [
    ('zero', [[0, 0.5, 1], [0, 0, 0]]), ('one', [[1, 0.5, 1], [1, 1, 0]])])
def test_ious_of_frames(tmp_path, absent, expected):
    metric = FrameIoUMetric(str(tmp_path / 'ious.json'), str(tmp_path / 'official'), absent)
    metric.process({}, [masked(), masked('folder/b').to_dict()])
    figures = metric.evaluate(2)
    assert figures['videos'] == 2 and figures['expressions'] == 4
    assert figures['iou'] == pytest.approx(100 * np.mean(expected))
    assert figures['iou_best'] == pytest.approx(100 * np.mean(np.max(expected, 1)))
    for path in ('ious.json', 'official'):
        scores = open_scores(tmp_path / path)
        for video_id in ('a', 'folder/b'):
            rows = [scores.get('toy', video_id, exp, NAMES).tolist() for exp in '01']
            assert rows == expected


def test_labelling(tmp_path):
    """What is kept of a video survives JSON, and the rest gives the same file."""
    whole = FrameIoUMetric(str(tmp_path / 'whole.json'))
    whole.process({}, [masked('a'), masked('b')])
    figures = whole.evaluate(2)
    first, second = (FrameIoUMetric(str(tmp_path / 'parts.json')) for _ in range(2))
    first.process({}, [masked('b')])
    second.results.append(second.load_result(json.loads(json.dumps(
        first.dump_result(first.results[0])))))
    second.process({}, [masked('a')])
    assert second.evaluate(2) == figures
    assert (tmp_path / 'parts.json').read_bytes() == (tmp_path / 'whole.json').read_bytes()
    with pytest.raises(ValueError, match="absent must be one of .* got 'two'"):
        FrameIoUMetric(str(tmp_path / 'ious.json'), absent='two')
    metric = FrameIoUMetric(str(tmp_path / 'ious.json'))
    with pytest.raises(ValueError, match='gt_rles'):
        metric.process({}, [make_sample(pred_masks=[[], []])])
    with pytest.raises(ValueError, match='can be the name of a file'):
        metric.process({}, [masked('../a')])
    metric.process({}, [masked('a'), masked('b', 'mevis')])
    with pytest.raises(ValueError, match=r"one data set, got those of \['mevis', 'toy'\]"):
        metric.evaluate(2)


def rows_of(scores, ious, keys):
    return [dict(key=k, scores=s, ious=i) for k, s, i in zip(keys, scores, ious)]


def test_figures():
    rng = np.random.default_rng(0)
    ious, scores = rng.random((5, 9)), rng.random((5, 9))
    ious[3] = 0.5
    keys = scores.argmax(1)
    figures = key_frame_figures(rows_of(scores, ious, keys))
    assert figures['expressions'] == 5 and figures['varying'] == 4
    assert figures['iou_key'] == pytest.approx(100 * ious[range(5), keys].mean())
    assert figures['iou_first'] == pytest.approx(100 * ious[:, 0].mean())
    assert figures['iou_best'] == pytest.approx(100 * ious.max(1).mean())
    assert figures['iou_mean'] == pytest.approx(100 * ious.mean())
    assert figures['spearman'] == pytest.approx(spearmanr(scores.ravel(), ious.ravel())[0])
    within = [spearmanr(scores[e], ious[e])[0] for e in (0, 1, 2, 4)]
    assert figures['spearman_within'] == pytest.approx(np.mean(within))
    assert figures['scored'] == 100
    ious = [[0.1, 0.2, 0.4]]
    assert key_frame_figures(rows_of([[0.5] * 3], ious, [2]))['spearman_within'] == 0
    some = key_frame_figures(rows_of([[0.1, None, 0.3]], ious, [2]))
    assert some['spearman_within'] == pytest.approx(1)
    assert some['scored'] == pytest.approx(200 / 3)
    none = key_frame_figures(rows_of([[None] * 3], ious, [1]))
    assert (none['spearman'], none['scored'], none['iou_key']) == (0, 0, 20)
    assert 'spearman' not in key_frame_figures(rows_of([None], ious, [1]))


def test_files_of_key_frames(tmp_path):
    scores = torch.tensor([[0.1, 0.9, 0.2], [float('nan')] * 3])
    sample = make_sample(pred_frame_scores=scores, key_frame_ids=[1, 2],
                         gt_scores=torch.tensor([[0.0, 1.0, 0.5], [0.0] * 3]))
    metric = KeyFrameMetric(str(tmp_path))
    metric.process({}, [sample])
    metric.results = [metric.load_result(json.loads(json.dumps(metric.dump_result(r))))
                      for r in metric.results]
    figures = metric.evaluate(1)
    assert figures['iou_key'] == 50 and figures['x/iou_key'] == 100
    for name in ('key_frames.json', 'key_frames_official.json'):
        file = KeyFrameFile(tmp_path / name)
        assert [file.frame_id('toy', 'a', exp, NAMES) for exp in '01'] == [1, 2]
    assert json.loads((tmp_path / 'key_frames_official.json').read_text()) == dict(a_0=5, a_1=10)
    for name in ('scores.json', 'scores_official'):
        read = open_scores(tmp_path / name).get('toy', 'a', '0', NAMES)
        np.testing.assert_allclose(read, scores[0], atol=1e-6)
        assert np.isnan(open_scores(tmp_path / name).get('toy', 'a', '1', NAMES)).all()
    metric = KeyFrameMetric(str(tmp_path / 'more'))
    metric.process({}, [make_sample(key_frame_ids=[0, 2])])
    assert metric.evaluate(1) == dict(expressions=2)
    assert not (tmp_path / 'more' / 'scores.json').exists()
    with pytest.raises(ValueError, match=r"key_frame_ids.* in video 'a'"):
        KeyFrameMetric().process({}, [make_sample()])


@pytest.mark.parametrize(('names', 'message'), [
    ({'a': {'0': 'first'}}, "got 'first' in video 'a'"),
    ({'a_1': {'2': '0'}, 'a': {'1_2': '0'}}, "'a_1_2', for two expressions")])
def test_what_the_official_layout_cannot_say(tmp_path, names, message):
    with pytest.raises(ValueError, match=message):
        write_official_key_frames(tmp_path / 'file.json', names)


def test_two_videos_of_one_id():
    """Repeated ones, with which samplers pad, count once; different ones are no mistake to hide."""
    metric = KeyFrameMetric()
    metric.process({}, [make_sample(key_frame_ids=[0, 2])] * 2)
    assert metric.evaluate(2) == dict(expressions=2)
    metric = KeyFrameMetric()
    metric.process({}, [make_sample(key_frame_ids=[0, 2]), make_sample(key_frame_ids=[0, 1])])
    with pytest.raises(ValueError, match="two videos 'a' that differ"):
        metric.evaluate(2)
