"""Key frames from a file: fallbacks, and GLUS that starts from them."""

import json

import pytest
import torch

from glus_mm.models import FileKeyFrameSelector
from glus_mm.models.inference import ArrayReader


@pytest.fixture
def official(tmp_path):
    path = tmp_path / 'key_frames.json'
    path.write_text(json.dumps({'video_0': 5, 'video_1': 0, 'other_2': 3}))
    return str(path)


def test_files(official, video, make_sample):
    with pytest.raises(ValueError, match="'video', expression '2'"):
        FileKeyFrameSelector(official).select(ArrayReader(video), make_sample())
    with pytest.raises(ValueError, match="missing must be one of .* got 'last'"):
        FileKeyFrameSelector(official, 'last')


@pytest.mark.parametrize(('missing', 'frame'), [('first', 0), ('middle', 4)])
def test_fallbacks_are_logged(official, video, make_sample, logged, missing, frame):
    keys = FileKeyFrameSelector(official, missing).select(ArrayReader(video), make_sample())
    assert keys.frame_ids == [5, 0, frame] and keys.scores is None
    assert f"'video_2', got none among 3; starts at the {missing} frame" in logged[-1]


def test_files_of_another_kind(tmp_path, video, make_sample):
    path = tmp_path / 'scores.json'
    path.write_text(json.dumps(dict(format='glus_mm.frame_scores', dataset='toy', videos=dict(
        video=dict(frames=[f'{t:05d}' for t in range(8)],
                   expressions={'0': [0] * 3 + [0.5] + [0.25] * 4, '1': [1] + [None] * 7})))))
    keys = FileKeyFrameSelector(str(path), 'middle').select(ArrayReader(video), make_sample())
    assert keys.frame_ids == [3, 0, 4] and keys.scores.shape == (3, 8)
    assert keys.scores[0, 3] == 0.5 and keys.scores[1, 1:].isnan().all()
    assert keys.scores[2].isnan().all()


def test_glus_starts_from_the_file(official, video, make_glus, make_sample):
    selector = dict(type='FileKeyFrameSelector', file=official, missing='middle')
    model = make_glus({'test_cfg.selector': selector})
    sample = model.predict(dict(reader=[ArrayReader(video)]), [make_sample()])[0]
    assert sample.key_frame_ids == [5, 0, 4]
    assert torch.isfinite(sample.pred_scores).all() and None not in sample.pred_masks[0]
