"""Objects of a video on the grid of visual tokens, against what the generator knows."""

import json

import numpy as np
import pytest

from glus_mm.datasets import MovingShapesDataset
from glus_mm.datasets.moving_shapes import generate_video, write_split
from glus_mm.datasets.transforms import LoadObjects, LoadRefVOSMasks, SampleContextQueryFrames


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    return write_split(tmp_path_factory.mktemp('shapes'), 3, 5, 'train', mp4=False)


def load(root, *more, index=0):
    data = MovingShapesDataset(data_root=str(root), pipeline=[
        SampleContextQueryFrames(num_context=3, num_query=2, num_expressions=10), *more])
    return data[index]


def test_objects_json_is_the_truth(root):
    known = json.loads((root / 'objects.json').read_text())
    for index, (name, objects) in enumerate(known.items()):
        video = generate_video(5, 'train', index)
        assert name == video.video_id
        assert [(item['colour'], item['shape'], item['flash']) for item in objects] == [
            (item.colour, item.shape, item.flash and list(item.flash)) for item in video.objects]
    masks = json.loads((root / 'mask_dict.json').read_text())
    assert [str(item['anno_id']) for objects in known.values() for item in objects] == list(masks)


@pytest.mark.parametrize('index', range(3))
def test_cells_centres_and_looks(root, index):
    results = load(root, LoadObjects(grid=8, vision_crop='squash'), index=index)
    video = generate_video(5, 'train', index)
    frames = results['context_frame_ids'] + results['query_frame_ids']
    height, width = video.frames.shape[1:3]
    names = [int(name) for name in results['object_names']]
    assert sorted(names) == list(range(len(video.objects)))
    assert results['object_cells'].shape == (len(names), 5, 8, 8)
    for o, number in enumerate(names):
        item = video.objects[number]
        assert results['object_words'][o] == dict(colour=item.colour, shape=item.shape)
        for f, frame in enumerate(frames):
            mask = video.masks[number, frame]
            assert results['object_lit'][o, f] == item.flashes_at(frame)
            assert results['object_cells'][o, f].mean() == pytest.approx(mask.mean(), abs=2e-3)
            assert results['object_sizes'][o, f] == pytest.approx(mask.mean()**0.5, rel=1e-5)
            ys, xs = np.nonzero(mask)
            if len(ys):
                centre = (xs.mean() + 0.5) / width, (ys.mean() + 0.5) / height
                np.testing.assert_allclose(results['object_centres'][o, f], centre, rtol=1e-5)
                row, column = int(centre[1] * 8), int(centre[0] * 8)
                assert results['object_cells'][o, f, row, column] > 0
            else:
                assert np.isnan(results['object_centres'][o, f]).all()


def test_expressions_of_one_object_cover_its_cells(root):
    results = load(root, LoadRefVOSMasks(), LoadObjects(grid=4))
    found = 0
    for e, expression in enumerate(results['expressions']):
        if len(expression['object_ids']) == 1:
            o = results['object_names'].index(expression['object_ids'][0])
            found += 1
            # The centre crop: columns, or rows, outside of the middle square do not count.
            mask = results['gt_masks'][e, 0]
            side = min(mask.shape)
            top, left = ((length - side) // 2 for length in mask.shape)
            crop = mask[top:top + side, left:left + side]
            share = crop.reshape(4, side // 4, 4, side // 4).mean((1, 3))
            np.testing.assert_allclose(results['object_cells'][o, 3], share, atol=0.02)
    assert found


def test_without_objects_json(root, tmp_path):
    copy = tmp_path / 'copy'
    copy.mkdir()
    for path in root.iterdir():
        if path.name != 'objects.json':
            (copy / path.name).symlink_to(path)
    results = load(copy, LoadObjects(grid=8))
    assert 'object_cells' in results and 'object_words' not in results
    with pytest.raises(ValueError, match='grid must be an integer of at least 1, got 0'):
        LoadObjects(grid=0)
    with pytest.raises(ValueError, match="vision_crop must be one of .*, got 'top'"):
        LoadObjects(grid=8, vision_crop='top')
    results = dict(mask_store=None, ori_shape=(4, 4), video_id='v', dataset='mevis')
    with pytest.raises(ValueError, match="video 'v' of mevis: expected a data set with masks"):
        LoadObjects(grid=8).transform(results)
