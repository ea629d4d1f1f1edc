"""Probes change what is shown or asked, and the truth follows the pictures."""

import numpy as np
import pytest

from glus_mm.datasets import MovingShapesDataset, ProbeVideo
from glus_mm.datasets.moving_shapes import write_split

PIPELINE = [dict(type='SampleContextQueryFrames', test_mode=True), dict(type='OpenFrameReader'),
            dict(type='LoadRefVOSGroundTruth'), dict(type='PackRefVOSInputs')]


@pytest.fixture(scope='module')
def load(tmp_path_factory):
    """``load(probe)``: the frames, the sample and the context frames of a video."""
    root = write_split(tmp_path_factory.mktemp('shapes'), 1, seed=3, split='valid_u', mp4=False)

    def load(probe=None):
        pipeline = [dict(step, type=f'glus_mm.{step["type"]}') for step in PIPELINE]
        if probe is not None:
            pipeline.insert(3, ProbeVideo(probe))
        item = MovingShapesDataset(
            data_root=str(root), pipeline=pipeline, test_mode=True)[0]
        reader = item['inputs']['reader']
        return ([reader.read(t) for t in range(len(reader))], item['data_samples'],
                reader.context_frames(4))

    return load


def test_still_reverse_shuffle(load):
    """Frames and masks of the first two are compared with the files of probes in test_probes.py."""
    (frames, sample, context), (_, probed, _) = load(), load('still')
    assert probed.frame_names == sample.frame_names and context == [1, 4, 7, 10]
    _, probed, context = load('reverse')
    # A picture keeps its name, so that its mask is written under it.
    assert probed.frame_names == sample.frame_names[::-1] and context == [1, 4, 7, 10]
    assert probed.expressions == sample.expressions
    (frames, sample, _), (shown, probed, context) = load(), load('shuffle')
    assert all(np.array_equal(*pair) for pair in zip(shown, frames))
    assert probed.gt_rles == sample.gt_rles
    assert sorted(context) == [1, 4, 7, 10] != context
    assert load('shuffle')[2] == context


def test_swap(load):
    (_, sample, _), (_, probed, _) = load(), load('swap')
    objects = dict(zip(sample.expressions, sample.object_ids))
    for e, exp_id in enumerate(probed.exp_ids):
        place = sample.exp_ids.index(exp_id)
        assert probed.gt_rles[e] == sample.gt_rles[place]
        assert probed.kinds[e] == sample.kinds[place]
        other = objects[probed.expressions[e]]
        assert other and not set(other) & set(sample.object_ids[place])
    left_out = set(sample.exp_ids) - set(probed.exp_ids)
    assert all(not ids for exp_id, ids in zip(sample.exp_ids, sample.object_ids)
               if exp_id in left_out and len(set(sample.object_ids)) > 2)
    with pytest.raises(ValueError, match="probe must be one of .* got 'blur'"):
        ProbeVideo('blur')
    with pytest.raises(ValueError, match="'still' needs masks: .*'v', got .* without ground truth"):
        ProbeVideo('still')(dict(video_id='v'))
