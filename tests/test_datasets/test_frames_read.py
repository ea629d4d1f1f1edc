"""A training sample reads the frames that it uses, each once, and no others."""

import json

import pytest

from glus_mm.datasets import (
    BuildConversation,
    LoadRefVOSFrames,
    LoadRefVOSMasks,
    MovingShapesDataset,
    PackRefVOSInputs,
    ResizeForEncoders,
    SampleContextQueryFrames,
)
from glus_mm.datasets.moving_shapes import write_split
from glus_mm.datasets.transforms import formatting, loading

VISION, SAM = 28, 32


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp('shapes')
    write_split(root, 2, seed=1, split='train', mp4=False)
    return root / 'train'


@pytest.fixture
def calls(monkeypatch):
    """Counts of what is done to frames, which is done all the same."""
    calls = dict(read=[], vision=[], sam=[])

    def count(module, function, name):
        original = getattr(module, function)

        def counting(*args, **options):
            calls[name].append(args[0])
            return original(*args, **options)

        monkeypatch.setattr(module, function, counting)

    count(loading, 'read_image', 'read')
    count(formatting, 'vision_tower_image', 'vision')
    count(formatting, 'sam2_image', 'sam')
    return calls


def dataset(root, **sampling):
    return MovingShapesDataset(data_root=str(root), pipeline=[
        SampleContextQueryFrames(**sampling), LoadRefVOSFrames(), LoadRefVOSMasks(),
        ResizeForEncoders(VISION, SAM), BuildConversation('tiny', 'compact'), PackRefVOSInputs()])


@pytest.mark.parametrize('strategy', ['global_local', 'global', 'local', 'random'])
def test_only_used_frames_are_read_and_only_query_frames_go_to_sam(root, calls, strategy):
    videos = dataset(root, num_expressions=3, strategy=strategy)
    shared = 0
    for draw in range(6):
        for frames in calls.values():
            frames.clear()
        item = videos[1, draw]
        sample, inputs = item['data_samples'], item['inputs']
        context, query = sample.context_frame_ids, sample.query_frame_ids
        used = dict.fromkeys([*context, *query])
        info = videos.get_data_info(1)
        assert len(info['frame_names']) > len(used)
        assert calls['read'] == [info['img_paths'][i] for i in used]
        assert len(calls['vision']) == len(used) and len(calls['sam']) == len(set(query))
        assert len(inputs['clip_imgs']) == len(context) + len(query)
        assert len(inputs['sam_imgs']) == len(query) == 4
        shared += len(context) + len(query) - len(used)
    assert (shared > 0) == (strategy in ('random', 'global', 'global_local')), shared


def test_masks_of_the_query_frames_only(root, monkeypatch):
    videos = dataset(root, num_expressions=2)
    asked = []
    store = type(videos.masks)
    original = store.rles
    monkeypatch.setattr(store, 'rles', lambda self, expression, frame, shape: (
        asked.append((expression['exp_id'], frame)), original(self, expression, frame, shape))[1])
    sample = videos[0, 2]['data_samples']
    assert asked == [(exp, frame) for exp in sample.exp_ids for frame in sample.query_frame_ids]
    meta = json.loads((root / 'meta_expressions.json').read_text())['videos'][sample.video_id]
    assert len(meta['expressions']) > len(sample.exp_ids) == 2
