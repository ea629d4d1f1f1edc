"""LoadFrameScores, and training samples without images for SAM-2."""

import json

import numpy as np
import pytest

from glus_mm.datasets import PackRefVOSInputs, ResizeForEncoders
from glus_mm.datasets.transforms import LoadFrameScores

NAMES = ['00000', '00005', '00010']


@pytest.fixture
def results():
    return dict(dataset='toy', video_id='a', frame_names=NAMES, query_frame_ids=[2, 0],
                expressions=[dict(exp_id='0'), dict(exp_id='1')])


@pytest.fixture
def write(tmp_path):
    def write(**expressions):
        path = tmp_path / 'ious.json'
        path.write_text(json.dumps(dict(format='glus_mm.frame_scores', dataset='toy', videos={
            'a': dict(frames=NAMES, expressions=expressions)})))
        return LoadFrameScores(str(path))
    return write


def test_scores_of_the_query_frames(write, results):
    transform = write(**{'0': [0.1, 0.2, 0.3], '1': [0.4, 0.5, 0.6], '2': [0, 0, 0]})
    scores = transform(results)['gt_scores']
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, [[0.3, 0.1], [0.6, 0.4]], atol=1e-7)
    with pytest.raises(ValueError, match="'mevis', got those of 'toy'"):
        write()(dict(results, dataset='mevis'))


@pytest.mark.parametrize(('expressions', 'message'), [
    ({'0': [1, 1, 1]}, "'a': expected scores of expression '1'"),
    ({'0': [1, 1, 1], '1': [1, 1, None]}, "expression '1': expected a score of frame '00010'")])
def test_missing_scores(write, results, expressions, message):
    with pytest.raises(ValueError, match=message):
        write(**expressions)(results)


def test_samples_without_sam_images(results, tmp_path):
    images = [np.zeros((8, 8, 3), np.uint8)] * 2
    results.update(context_frame_ids=[0], context_imgs=images[:1], query_imgs=images,
                   ori_shape=(8, 8), input_ids=[np.zeros(3)] * 2, labels=[np.zeros(3)] * 2,
                   gt_scores=np.ones((2, 2), np.float32),
                   expressions=[dict(exp_id=str(e), exp='x', object_ids=(), kind=None)
                                for e in range(2)])
    item = PackRefVOSInputs()(ResizeForEncoders(4, None)(results))
    assert item['inputs']['clip_imgs'].shape == (3, 3, 4, 4) and 'sam_imgs' not in item['inputs']
    assert item['data_samples'].gt_scores.shape == (2, 2)
    transform = LoadFrameScores(str(tmp_path / 'none.json'))  # may be made later
    with pytest.raises(FileNotFoundError, match='none'):
        transform(results)
