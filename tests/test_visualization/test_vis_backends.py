"""Pictures and numbers arrive in TensorBoard and W&B."""

import numpy as np
import pytest

from glus_mm.registry import VISUALIZERS, build_child
from glus_mm.structures import RefVOSDataSample
from glus_mm.utils.masks import encode_mask


def visualizer(name, folder, **backend):
    return build_child(VISUALIZERS, dict(
        type='RefVOSLocalVisualizer', name=name, save_dir=str(folder), vis_backends=[backend]))


@pytest.fixture
def sample():
    mask = np.zeros((48, 64), dtype=bool)
    mask[10:30, 10:30] = True
    sample = RefVOSDataSample(metainfo=dict(
        video_id='v', exp_ids=('0', ), expressions=('the box', ), ori_shape=(48, 64)))
    sample.gt_rles = [[encode_mask(mask)] * 2]
    sample.pred_masks = [[encode_mask(~mask)] * 2]
    return sample


FRAME = np.full((48, 64, 3), 90, dtype=np.uint8)


def test_tensorboard(sample, tmp_path):
    pytest.importorskip('tensorboard', reason='needs the extra "tensorboard"')
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = visualizer('board', tmp_path, type='TensorboardVisBackend')
    for step in (3, 4):
        board.add_scalar('J', 0.1 * step, step)
    for t in range(2):
        board.add_datasample('v', FRAME, sample, step=t, frame_idx=t)
    board.close()
    events = EventAccumulator(str(next(tmp_path.rglob('events.out.*')).parent))
    events.Reload()
    assert [(e.step, pytest.approx(e.value)) for e in events.Scalars('J')] == [(3, 0.3), (4, 0.4)]
    pictures = events.Images('v')
    assert [picture.step for picture in pictures] == [0, 1]
    assert (pictures[0].width, pictures[0].height) == (960, 360)
    assert pictures[0].encoded_image_string.startswith(b'\x89PNG')


def test_wandb_offline(sample, tmp_path, monkeypatch):
    pytest.importorskip('wandb', reason='needs the extra "wandb"')
    monkeypatch.setenv('WANDB_MODE', 'offline')
    monkeypatch.setenv('WANDB_SILENT', 'true')
    monkeypatch.setenv('WANDB_ERROR_REPORTING', 'false')
    board = visualizer('wandb', tmp_path, type='WandbVisBackend',
                       init_kwargs=dict(project='p', mode='offline'))
    board.add_scalar('J', 0.5, 1)
    board.add_datasample('v', FRAME, sample)
    board.close()
    run = next(tmp_path.rglob('offline-run-*'))
    assert list(run.rglob('*.wandb'))[0].stat().st_size > 0
    assert [path.suffix for path in run.rglob('media/images/*')] == ['.png']
