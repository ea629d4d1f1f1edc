"""tools/analysis_tools/plot_key_frames.py: which frames it shows and marks, and its picture."""

import numpy as np
import pytest
from PIL import Image

import programs
from glus_mm.models.inference import ArrayReader
from glus_mm.structures import RefVOSDataSample
from glus_mm.utils.masks import encode_mask
from programs import ROOT

TOOL = ROOT / 'tools' / 'analysis_tools' / 'plot_key_frames.py'


@pytest.fixture(scope='module')
def tool():
    return programs.load(TOOL)


class Scores:
    """A score file that holds one expression."""

    def __init__(self, tool, values):
        self.tool, self.values = tool, values

    def get(self, dataset, video_id, exp_id, frame_names):
        if exp_id != '0':
            raise self.tool.MissingEntryError('none')
        return np.array(self.values)


@pytest.fixture
def video():
    rng = np.random.default_rng(0)
    frames = list(rng.integers(0, 255, (5, 20, 30, 3), dtype=np.uint8))
    mask = np.zeros((20, 30), bool)
    mask[5:12, 5:20] = True
    sample = RefVOSDataSample(
        metainfo=dict(dataset='toy', video_id='v', exp_ids=('0', '1'), kinds=('event', None),
                      expressions=('one', 'two'), frame_names=tuple('abcde'), ori_shape=(20, 30)),
        gt_rles=[[encode_mask(mask)] * 5] * 2)
    return sample, ArrayReader(frames)


def test_rows_and_picture(tool, video, tmp_path):
    sources = dict(scores=Scores(tool, [0.1, 0.4, 0.2, 0.4, 0]), ious=None)
    rows = tool.make_rows(*video, None, sources, 4)
    assert [row.title for row in rows] == ['0: one  [event]', '1: two']
    assert rows[0].frames == list(range(5)) and rows[1].scores is None
    figure = tool.plot_rows(rows, video[0].frame_names, 'v')
    curves = figure.axes[0]
    assert curves.lines[0].get_ydata().tolist() == [0.1, 0.4, 0.2, 0.4, 0]
    assert list(curves.lines[1].get_xdata()) == [3, 3]  # the later one of equal scores
    assert len(figure.axes[1].images) == 5 and len(figure.axes[1].patches) == 1
    assert not figure.axes[2].lines and not figure.axes[3].patches
    figure.savefig(tmp_path / 'plot.png')
    assert Image.open(tmp_path / 'plot.png').size == (1400, 640)


@pytest.mark.parametrize(('values', 'marked'), [
    ([0.0] * 5, False), ([np.nan] * 5, False), ([np.nan, 0.5, 0.5, np.nan, np.nan], True)])
def test_nothing_is_marked_where_all_frames_are_equal(tool, video, values, marked):
    rows = tool.make_rows(*video, ['0'], dict(scores=None, ious=Scores(tool, values)), 4)
    figure = tool.plot_rows(rows, video[0].frame_names, 'v')
    assert (len(figure.axes[0].lines) == 2) == marked == bool(figure.axes[1].patches)


def test_long_videos_and_unknown_expressions(tool, video):
    chosen = tool._chosen(100, [np.eye(100)[37], np.eye(100)[38]])
    assert len(chosen) <= tool.MAX_THUMBNAILS and {0, 37, 38, 99} <= set(chosen)
    with pytest.raises(ValueError, match=r"video 'v': expected .* \['0', '1'\], got \['7'\]"):
        tool.make_rows(*video, ['7'], dict(scores=None, ious=None), 4)
