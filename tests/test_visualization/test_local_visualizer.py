"""Masks, expressions and errors drawn on frames; contact sheets; pictures in the backends."""

import cv2
import numpy as np
import pytest
import torch

from glus_mm.registry import VISUALIZERS, build_child
from glus_mm.structures import RefVOSDataSample
from glus_mm.utils.masks import encode_mask
from glus_mm.visualization import ERROR_COLORS, RefVOSLocalVisualizer, contact_sheet
from glus_mm.visualization.legend import (
    LegendEntry,
    draw_legend,
    legend_strip,
    load_font,
    wrap_text,
)
from glus_mm.visualization.local_visualizer import PALETTE

GREY = 90
RED, BLUE = (250, 10, 10), (10, 10, 250)


@pytest.fixture
def visualizer():
    return RefVOSLocalVisualizer()


def frame(height=96, width=128):
    return np.full((height, width, 3), GREY, dtype=np.uint8)


def box_mask(height, width, top, left):
    """A box of a quarter of the sides; ``top`` and ``left`` are parts of them."""
    mask = np.zeros((height, width), dtype=bool)
    mask[int(top * height):int((top + 0.25) * height),
         int(left * width):int((left + 0.25) * width)] = True
    return mask


def box(top, left, size=20, shape=(96, 128)):
    mask = np.zeros(shape, dtype=bool)
    mask[top:top + size, left:left + size] = True
    return mask


def count(image, color):
    return int((np.abs(image.astype(int) - color).max(axis=2) <= 12).sum())


def has_color(image, color):
    return count(image, color) > 0


def test_masks_get_their_colours_and_the_rest_stays(visualizer):
    image, masks = frame(540, 960), [box_mask(540, 960, 0.5, 0.1), box_mask(540, 960, 0.5, 0.6)]
    drawn = visualizer.draw_frame(image, np.stack(masks), ['a', 'b'])
    assert drawn.shape == image.shape and drawn.dtype == np.uint8
    for mask, color in zip(masks, PALETTE):
        inside = cv2.erode(mask.astype(np.uint8), np.ones((21, 21))) > 0
        mixed = np.round(GREY * (1 - visualizer.alpha) + np.array(color) * visualizer.alpha)
        assert (drawn[inside] == mixed.astype(np.uint8)).all()
    # Below the legend and away from the outlines nothing changes; the input never does.
    outside = cv2.dilate((masks[0] | masks[1]).astype(np.uint8), np.ones((21, 21))) == 0
    outside[:200] = False
    assert (drawn[outside] == GREY).all()
    assert (image == GREY).all()


@pytest.mark.parametrize(('shape', 'expected'), [
    ((96, 128), (360, 480)), ((128, 96), (640, 480)), ((7, 13), (258, 480)),
    ((300, 480), (300, 480)), ((201, 601), (201, 601))])
def test_small_frames_are_enlarged(visualizer, shape, expected):
    mask = box_mask(*shape, 0.6, 0.3)
    drawn = visualizer.draw_frame(frame(*shape), mask[None], ['the red circle'])
    assert drawn.shape == (*expected, 3)


def test_masks(visualizer):
    mask = np.zeros((96, 128), dtype=bool)
    mask[70, 60] = True
    drawn = visualizer.draw_frame(frame(96, 128), mask[None], ['a'], legend=False)
    assert (drawn != GREY).any(2).sum() > 20
    masks = np.zeros((40, 96, 128), dtype=bool)
    drawn = visualizer.draw_frame(frame(96, 128), masks, [f'expression {e}' for e in range(40)])
    assert (drawn[185:] == GREY).all()
    assert visualizer.color(len(PALETTE)) == PALETTE[0]
    mask = box_mask(540, 960, 0.5, 0.4)
    drawn = visualizer.draw_frame(frame(540, 960), np.stack([mask, mask]), ['a', 'b'],
                                  legend=False)
    assert has_color(drawn, PALETTE[0]) and has_color(drawn, PALETTE[1])
    with pytest.raises(ValueError, match='the image to draw on: expected an RGB frame'):
        visualizer.draw_frame(np.zeros((8, 8)), np.zeros((0, 8, 8)), [])


def test_legend(visualizer):
    empty = np.zeros((2, 96, 128), dtype=bool)
    drawn = visualizer.draw_frame(frame(96, 128), empty, ['first', 'second'])
    assert has_color(drawn[:24], PALETTE[0]) and not has_color(drawn[:24], PALETTE[1])
    assert has_color(drawn[24:48], PALETTE[1])
    own = [(10, 250, 10), (250, 10, 250)]
    drawn = visualizer.draw_frame(frame(96, 128), empty, ['first', 'second'], own)
    assert has_color(drawn[:24], own[0]) and has_color(drawn[24:48], own[1])
    mask = box_mask(96, 128, 0.7, 0.7)
    full = visualizer.draw_frame(frame(96, 128), mask[None], [' '])
    hollow = visualizer.draw_frame(frame(96, 128), mask[None] & False, [' '])
    assert 0 < count(hollow[:30, :30], PALETTE[0]) < count(full[:30, :30], PALETTE[0]) / 2


@pytest.mark.parametrize('text', [
    'красный круг', '红色的圆形', 'الدائرة الحمراء', '🙂 emoji', 'lone \ud800 surrogate',
    'tabs\tand\nnew lines', 'nul \0 and bell \7', '', ' ', 'x' * 10000, 'many words ' * 1000])
def test_any_text_can_be_drawn(visualizer, text):
    mask = box_mask(96, 128, 0.6, 0.3)
    drawn = visualizer.draw_frame(frame(96, 128), mask[None], [text], caption=text)
    assert drawn.shape == (360, 480, 3)
    # At most two lines: the middle of the left side is free of them.
    assert (drawn[60:180, :100] == GREY).all()


def test_wrapping():
    font = load_font(14)
    assert wrap_text('the red circle', font, 400) == ['the red circle']
    two = wrap_text('the red circle that moves to the left', font, 150)
    assert len(two) == 2 and ' '.join(two) == 'the red circle that moves to the left'
    cut = wrap_text('one two three four five six seven eight nine ten', font, 100)
    assert len(cut) == 2 and cut[1].endswith('\N{HORIZONTAL ELLIPSIS}')
    assert all(font.getlength(line) <= 100 for line in [*two, *cut] if line in cut)
    assert len(wrap_text('x' * 300, font, 100)) == 2


@pytest.mark.parametrize(('masks', 'expressions', 'colors', 'match'), [
    (np.zeros((1, 8, 8)), ['a', 'b'], None, r'expected masks \(E, H, W\) = \(2, 8, 8\)'),
    (np.zeros((1, 9, 8)), ['a'], None, r'\(1, 8, 8\) .*got \(1, 9, 8\)'),
    (np.zeros((1, 8, 8)), ['a'], [], 'a colour for each of 1'),
])
def test_what_does_not_agree_is_refused(visualizer, masks, expressions, colors, match):
    with pytest.raises(ValueError, match=match):
        visualizer.draw_frame(frame(8, 8), masks, expressions, colors)


@pytest.mark.parametrize('wrong', [dict(alpha=1.5), dict(min_width=0), dict(palette=[])])
def test_arguments_are_checked(wrong):
    with pytest.raises(ValueError, match=f'visualizer.{next(iter(wrong))}'):
        RefVOSLocalVisualizer(**wrong)


@pytest.fixture
def sample():
    sample = RefVOSDataSample(metainfo=dict(
        video_id='v', exp_ids=('0', ), expressions=('the box', ), ori_shape=(48, 64),
        query_frame_ids=[3, 4]))
    sample.gt_rles = [[None, encode_mask(box_mask(48, 64, 0.6, 0.1))]]
    sample.pred_masks = [[encode_mask(box_mask(48, 64, 0.6, 0.6))] * 2]
    return sample


def with_backend(name, folder, **backend):
    return build_child(VISUALIZERS, dict(
        type='RefVOSLocalVisualizer', name=name, save_dir=str(folder), vis_backends=[backend]))


def test_data_sample_goes_to_the_backend(sample, tmp_path):
    visualizer = with_backend('backend_test', tmp_path, type='LocalVisBackend')
    for t in range(2):
        visualizer.add_datasample('shown', frame(48, 64), sample, step=t, frame_idx=t)
    visualizer.add_datasample('bare', frame(48, 64))
    files = {path.name: cv2.imread(str(path))[..., ::-1] for path in tmp_path.rglob('*.png')}
    assert sorted(files) == ['bare_0.png', 'shown_0.png', 'shown_1.png']
    assert (files['bare_0.png'] == GREY).all()
    assert files['shown_1.png'].shape == (360, 960, 3)
    # The middle of the true box: frame 0 has no annotation.
    middle = (int(0.72 * 360), int(0.22 * 480))
    assert (files['shown_0.png'][middle] == GREY).all()
    assert (files['shown_1.png'][middle] != GREY).any()


def test_data_sample_goes_to_a_file(visualizer, sample, tmp_path):
    out = tmp_path / 'new' / 'x.jpg'
    visualizer.add_datasample('x', frame(48, 64), sample, draw_gt=False, out_file=out)
    assert cv2.imread(str(out)).shape == (360, 480, 3)
    del sample.gt_rles, sample.pred_masks
    sample.gt_masks = torch.zeros(1, 2, 48, 64, dtype=torch.uint8)
    visualizer.add_datasample('x', frame(48, 64), sample, out_file=out, frame_idx=4)
    assert cv2.imread(str(out)).shape == (360, 480, 3)
    frames = [np.full((20, 30, 3), 50 + 10 * i, dtype=np.uint8) for i in range(5)]
    sheet = contact_sheet(frames, columns=3)
    assert sheet.shape == (2 * 28, 3 * 34 + 4, 3)
    centres = [sheet[14 + 28 * (i // 3), 19 + 34 * (i % 3), 0] for i in range(5)]
    assert centres == [50, 60, 70, 80, 90]
    assert (sheet[28:, 2 * 34 + 4:] == sheet[0, 0]).all(), 'the free place is ground'
    frames = [frame(20, 300), frame(40, 100), frame(20, 300)]
    plain = contact_sheet(frames, 2)
    titled = contact_sheet(frames, 2, row_titles=['first', 'второй'],
                           row_colors=[(250, 0, 0), (0, 250, 0)])
    assert titled.shape[1] == plain.shape[1] and titled.shape[0] > plain.shape[0]
    assert has_color(titled[:40], (250, 0, 0))
    assert contact_sheet(frames[:1], 8).shape == (28, 308, 3)


@pytest.mark.parametrize(('arguments', 'match'), [
    (dict(frames=[], columns=1), 'at least one frame'),
    (dict(frames=[frame(4, 4)], columns=0), 'columns must be .*at least 1'),
    (dict(frames=[frame(4, 4)], columns=1, row_titles=['a', 'b']), 'a title for each of 1'),
    (dict(frames=[frame(4, 4)], columns=1, row_titles=['a'], row_colors=[]), 'a colour for each'),
    (dict(frames=[frame(4, 4), np.zeros((4, 4))], columns=1), 'frame 1 of the contact sheet'),
])
def test_contact_sheet_refuses(arguments, match):
    with pytest.raises(ValueError, match=match):
        contact_sheet(**arguments)


def test_scores_that_a_model_did_not_learn_are_not_shown(visualizer, sample, tmp_path):
    drawn = {}
    sample.pred_scores = torch.full((len(sample), 2), 0.5)
    for trained in (None, ('scores', ), ('presence', )):
        if trained is not None:
            sample.set_metainfo(dict(trained_scores=trained))
        path = tmp_path / 'x.png'
        visualizer.add_datasample('x', frame(48, 64), sample, out_file=path, frame_idx=1)
        drawn[trained] = cv2.imread(str(path))
    assert (drawn[None] == drawn['scores', ]).all()
    assert drawn['presence', ].shape != drawn[None].shape or (
        drawn['presence', ] != drawn[None]).any()


def test_many_expressions_of_a_sample_stand_in_rows(visualizer, sample, tmp_path):
    sample.set_metainfo(dict(exp_ids=tuple('01234'), expressions=tuple('abcde')))
    sample.gt_rles = sample.gt_rles * 5
    sample.pred_masks = sample.pred_masks * 5
    sample.pred_scores = torch.rand(5, 2)
    visualizer.add_datasample('x', frame(48, 64), sample, out_file=tmp_path / 'x.png', frame_idx=1)
    image = cv2.imread(str(tmp_path / 'x.png'))[..., ::-1]
    assert image.shape == (2 * 360, 960, 3), 'four expressions in a row, then one'
    assert has_color(image[360:], PALETTE[4]) and not has_color(image[360:], PALETTE[3])
    with pytest.raises(ValueError, match='expressions_per_row must be an integer of at least 1'):
        RefVOSLocalVisualizer(expressions_per_row=0)


def test_a_legend_below():
    inside = RefVOSLocalVisualizer()
    below = RefVOSLocalVisualizer(legend_position='below')
    mask = box(0, 0)[None]
    drawn = below.draw_frame(frame(), mask, ['the box'])
    bare = inside.draw_frame(frame(), mask, ['the box'], legend=False)
    assert (drawn[:360] == bare).all() and drawn.shape[0] > 360
    assert count(drawn[360:], PALETTE[0]) > 50
    assert inside.draw_frame(frame(), mask, ['the box']).shape[0] == 360
    assert below.draw_frame(frame(), mask, ['the box'], legend=False).shape[0] == 360
    below = RefVOSLocalVisualizer(legend_position='below')
    texts, shapes = ['short', 'a text of many words ' * 6], set()
    for masks in (np.zeros((2, 96, 128), bool), np.ones((2, 96, 128), bool)):
        for scores in ([0, 1], [0.123456, 0.5]):
            shapes.add(below.draw_frame(frame(), masks, texts, scores=scores).shape)
    assert len(shapes) == 1
    assert LegendEntry('a', RED).label == 'a'
    assert LegendEntry('a', RED, score=0.4567).label == '0.46  a'
    plain = RefVOSLocalVisualizer().draw_frame(frame(), box(50, 50)[None], ['the box'])
    scored = RefVOSLocalVisualizer().draw_frame(frame(), box(50, 50)[None], ['the box'],
                                                scores=np.float32([0.5]))
    assert count(scored[:40], PALETTE[0]) > count(plain[:40], PALETTE[0])
    with pytest.raises(ValueError, match='a score for each of 1 expressions, got 2'):
        RefVOSLocalVisualizer().draw_frame(frame(), box(0, 0)[None], ['a'], scores=[1, 2])


def test_strips():
    entries = [LegendEntry('one', RED), LegendEntry('two', BLUE, filled=False)]
    strip = legend_strip(entries, 300)
    assert strip.shape[1] == 300
    assert count(strip[:strip.shape[0] // 2], RED) > 2 * count(
        strip[strip.shape[0] // 2:], BLUE) > 0
    assert (draw_legend(frame(), []) == frame()).all()
    # The mask of one object lies in that of its group, which is drawn later.
    one, group = box(10, 10), box(10, 10) | box(60, 90)
    drawn = RefVOSLocalVisualizer().draw_frame(frame(), np.stack([one, group]), ['one', 'all'],
                                               legend=False)
    assert count(drawn, PALETTE[0]) > 100 and count(drawn, PALETTE[2]) == 0


def test_error_maps():
    visualizer = RefVOSLocalVisualizer(min_width=128)
    gt, pred = box(60, 40), box(60, 50)
    image = frame()
    image[:, :64] = (200, 30, 30)
    drawn = visualizer.draw_errors(image, gt, pred, caption='00001')
    assert drawn.shape[1] == 128 and drawn.shape[0] > 96, 'a legend stands below'
    grey = int(drawn[10, 10, 0])
    assert (drawn[10, 10] == grey).all(), 'only errors have colours'
    where = {'true positive': 55, 'false positive': 67, 'false negative': 45}
    for name, column in where.items():
        ground = grey if column < 64 else GREY
        expected = ground * 0.25 + 0.75 * np.array(ERROR_COLORS[name])
        assert np.abs(drawn[70, column] - expected).max() <= 1, name
    titled = visualizer.draw_errors(image, gt, pred, 'the box')
    assert titled.shape[0] > drawn.shape[0]
    with pytest.raises(ValueError, match=r'masks of one size, got \(96, 128\) and \(8, 8\)'):
        RefVOSLocalVisualizer().draw_errors(frame(), box(0, 0), np.zeros((8, 8)))
    with pytest.raises(ValueError, match=r'expected masks of \(H, W\) = \(8, 8\)'):
        RefVOSLocalVisualizer().draw_errors(frame(8, 8), box(0, 0), box(0, 0))
    with pytest.raises(ValueError, match="legend_position must be one of .* got 'above'"):
        RefVOSLocalVisualizer(legend_position='above')


def test_tensorboard(sample, tmp_path):
    pytest.importorskip('tensorboard', reason='needs the extra "tensorboard"')
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = with_backend('board', tmp_path, type='TensorboardVisBackend')
    for step in (3, 4):
        board.add_scalar('J', 0.1 * step, step)
    for t in range(2):
        board.add_datasample('v', frame(48, 64), sample, step=t, frame_idx=t)
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
    board = with_backend('wandb', tmp_path, type='WandbVisBackend',
                         init_kwargs=dict(project='p', mode='offline'))
    board.add_scalar('J', 0.5, 1)
    board.add_datasample('v', frame(48, 64), sample)
    board.close()
    run = next(tmp_path.rglob('offline-run-*'))
    assert list(run.rglob('*.wandb'))[0].stat().st_size > 0
    assert [path.suffix for path in run.rglob('media/images/*')] == ['.png']
