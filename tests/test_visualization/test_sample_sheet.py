"""One sample on one image."""

import cv2
import numpy as np
import pytest

from glus_mm.visualization import SheetFrame, sample_sheet
from glus_mm.visualization.local_visualizer import PALETTE


def frame(label='frame', masks=None, shape=(60, 80), value=90):
    return SheetFrame(np.full((*shape, 3), value, np.uint8), label, masks)


def box(shape=(60, 80), number=1):
    masks = np.zeros((number, *shape), bool)
    for i in range(number):
        masks[i, 10 + 5 * i:14 + 5 * i, 30:50] = True
    return masks


def has_color(image, color, tolerance=3):
    return bool((np.abs(image.astype(int) - color).max(axis=2) <= tolerance).any())


def test_tiles():
    context, query = [frame()] * 4, [frame(masks=box())] * 6
    sheet = sample_sheet('title', ['a box'], [('Context', context), ('Query', query)])
    assert sheet.dtype == np.uint8 and sheet.shape[1] == 4 * (480 + 4) + 4
    # Three rows of frames that are 360 high, one line for the title, one each for the legend and
    # the two headings.
    assert 3 * 360 + 4 * 20 < sheet.shape[0] < 4 * 360
    only_query = sample_sheet('title', ['a box'], [('Context', []), ('Query', query)])
    assert only_query.shape[0] < sheet.shape[0] - 360 and only_query.shape[1] == sheet.shape[1]
    sheet = sample_sheet('t', ['a', 'b', 'c'], [('h', [frame(masks=box(number=3))])])
    for color in PALETTE[:3]:
        assert has_color(sheet, color)
    assert not has_color(sheet, PALETTE[3])
    # That leaves fewer pixels of its colour in the legend, where the mask is not.
    def pixels(masks):
        sheet = sample_sheet('t', ['same words'], [('h', [frame(masks=masks, shape=(400, 480))])])
        legend = sheet[:-430]
        return (np.abs(legend.astype(int) - PALETTE[0]).max(axis=2) <= 3).sum()

    assert pixels(box((400, 480))) > pixels(np.zeros((1, 400, 480), bool)) + 50


@pytest.mark.parametrize('shape, width', [
    ((400, 480), 480), ((720, 1280), 480), ((1280, 720), 225), ((4, 3000), 480), ((30, 40), 480)])
def test_frames_are_fitted_into_the_tile(shape, width):
    sheet = sample_sheet('t', [], [('h', [frame(shape=shape)] * 3)])
    assert sheet.shape[1] == 3 * (width + 4) + 4


def test_odd_sizes_and_texts(tmp_path):
    masks = np.zeros((1, 2160, 3840), bool)
    masks[0, 1000:1002, 2000:2002] = True
    with_object = sample_sheet('t', ['x'], [('h', [frame(masks=masks, shape=(2160, 3840))])])
    without = sample_sheet('t', ['x'], [('h', [frame(masks=masks * False, shape=(2160, 3840))])])
    assert (with_object[-270:] != without[-270:]).any()
    text = 'word ' * 100
    sheet = sample_sheet(text, [text] * 2, [(text, [frame(masks=box(number=2))])])
    assert sheet.shape[1] == 488
    ground = sheet[:, -3:][:200]
    assert (ground == 32).all(), 'text runs into the margin'
    sheet = sample_sheet('\ud800 \x00', ['\N{CJK UNIFIED IDEOGRAPH-6F22}', ''],
                         [('', [frame('\n', box(number=2))])])
    assert cv2.imwrite(str(tmp_path / 'x.png'), sheet)
    with pytest.raises(ValueError, match='at least one frame for a sheet'):
        sample_sheet('t', [], [('h', [])])
    with pytest.raises(ValueError, match=r'expected masks \(E, H, W\) = \(1, 60, 80\)'):
        sample_sheet('t', ['a'], [('h', [frame(masks=box(number=2))])])
    with pytest.raises(ValueError, match=r'= \(1, 900, 1600\), got \(1, 60, 80\)'):
        sample_sheet('t', ['a'], [('h', [frame(masks=box(), shape=(900, 1600))])])
    with pytest.raises(ValueError, match='expected an RGB frame'):
        sample_sheet('t', [], [('h', [SheetFrame(np.zeros((3, 4)), 'x')])])
