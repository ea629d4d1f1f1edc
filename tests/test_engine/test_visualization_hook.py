"""Overlays of tested videos."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

from glus_mm.engine.hooks import RefVOSVisualizationHook
from glus_mm.registry import VISUALIZERS, build_child
from glus_mm.structures import RefVOSDataSample
from glus_mm.utils.masks import encode_mask
from glus_mm.video import ArrayReader
from glus_mm.visualization import ERROR_COLORS, RefVOSLocalVisualizer

SIZE = (20, 30)


@pytest.fixture
def batch():
    frames = [np.full((*SIZE, 3), 10 * t, dtype=np.uint8) for t in range(6)]
    reader = ArrayReader(frames)
    mask = np.zeros(SIZE, dtype=bool)
    mask[5:15, 5:15] = True
    sample = RefVOSDataSample(metainfo=dict(
        dataset='toy', video_id='video_a', exp_ids=('0', ), expressions=('the box', ),
        object_ids=(('1', ), ), kinds=(None, ), frame_names=reader.frame_names, ori_shape=SIZE))
    sample.gt_rles = [[encode_mask(mask)] * 6]
    sample.pred_masks = [[encode_mask(~mask)] * 6]
    sample.pred_scores = torch.ones(1, 6)
    return dict(inputs=dict(reader=[reader])), [sample]


def runner(visualizer):
    return SimpleNamespace(visualizer=visualizer)


def test_files_and_both_panels(tmp_path, batch):
    hook = RefVOSVisualizationHook(draw=True, out_dir=str(tmp_path / 'shown'), num_frames=3)
    run = runner(RefVOSLocalVisualizer(min_width=30))
    hook.before_test(run)
    data, outputs = batch
    hook.after_test_iter(run, 0, data, outputs)
    files = sorted((tmp_path / 'shown' / 'video_a').iterdir())
    assert [f.stem for f in files] == [data['inputs']['reader'][0].frame_names[t]
                                       for t in (1, 3, 5)]
    image = cv2.imread(str(files[0])).astype(int)
    assert image.shape == (20, 60, 3)
    assert (image[:, :30] != image[:, 30:]).any(), 'truth and prediction differ here'


def test_interval_and_off(tmp_path, batch):
    run = runner(RefVOSLocalVisualizer())
    RefVOSVisualizationHook().after_test_iter(run, 0, *batch)
    hook = RefVOSVisualizationHook(draw=True, out_dir=str(tmp_path / 'shown'), interval=2)
    hook.after_test_iter(run, 1, *batch)
    assert list(tmp_path.iterdir()) == []


def test_folders_and_intervals(tmp_path):
    (tmp_path / 'file').write_text('text')
    hook = RefVOSVisualizationHook(draw=True, out_dir=str(tmp_path / 'file'))
    with pytest.raises(NotADirectoryError):
        hook.before_test(runner(RefVOSLocalVisualizer()))
    hook = RefVOSVisualizationHook(draw=True, out_dir=str(tmp_path))
    with pytest.raises(TypeError, match='RefVOSLocalVisualizer'):
        hook.before_test(runner(object()))


@pytest.mark.parametrize(('kwargs', 'error'), [
    (dict(draw=True, draw_errors=True), ValueError), (dict(interval=0), ValueError),
    (dict(drow=1), TypeError)])
def test_bad_arguments(kwargs, error):
    with pytest.raises(error):
        RefVOSVisualizationHook(**kwargs)


def test_error_maps(tmp_path, batch):
    hook = RefVOSVisualizationHook(draw=True, out_dir=str(tmp_path), num_frames=1,
                                   draw_errors=True)
    run = runner(RefVOSLocalVisualizer(alpha=1))
    hook.before_test(run)
    hook.after_test_iter(run, 0, *batch)
    image = cv2.imread(str(tmp_path / 'video_a' / 'errors' / '0' / '00003.png'))[..., ::-1]
    assert image.shape[1] == 480 and image.shape[0] > 320, 'texts stand above and below'
    # Nothing is right here: the upper left corner has too much, the middle of the box is missed.
    extra, missed = image[60, 20].astype(int), image[190, 160].astype(int)
    assert np.abs(extra - ERROR_COLORS['false positive']).max() < 60
    assert np.abs(missed - ERROR_COLORS['false negative']).max() < 60


def test_without_a_folder_the_backends_get_the_pictures(tmp_path, batch):
    hook = RefVOSVisualizationHook(draw=True, num_frames=2)
    with pytest.raises(ValueError, match='expected out_dir, or a visualizer with vis_backends'):
        hook.before_test(runner(RefVOSLocalVisualizer()))
    run = runner(build_child(VISUALIZERS, dict(
        type='RefVOSLocalVisualizer', name='hook', save_dir=str(tmp_path),
        vis_backends=[dict(type='LocalVisBackend')])))
    hook.before_test(run)
    hook.after_test_iter(run, 0, *batch)
    assert sorted(path.name for path in tmp_path.rglob('*.png')) == [
        'video_a_1.png', 'video_a_4.png']
