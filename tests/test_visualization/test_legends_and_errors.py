"""Confidences, legends below the frame, and what is right and wrong about a mask."""

import numpy as np
import pytest

from glus_mm.visualization import ERROR_COLORS, RefVOSLocalVisualizer
from glus_mm.visualization.legend import LegendEntry, draw_legend, legend_strip
from glus_mm.visualization.local_visualizer import PALETTE

GREY = 90
RED, BLUE = (250, 10, 10), (10, 10, 250)


def frame(height=96, width=128):
    return np.full((height, width, 3), GREY, dtype=np.uint8)


def box(top, left, size=20, shape=(96, 128)):
    mask = np.zeros(shape, dtype=bool)
    mask[top:top + size, left:left + size] = True
    return mask


def count(image, color, tolerance=12):
    return int((np.abs(image.astype(int) - color).max(axis=2) <= tolerance).sum())


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


def test_errors():
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
