"""benchmark_scale_out.py: its data set is whole and as uneven as it says."""

import importlib.util
from argparse import Namespace
from pathlib import Path

import pytest

from glus_mm.datasets import BalancedVideoSampler, LoadRefVOSGroundTruth, MovingShapesDataset

TOOL = Path(__file__).resolve().parents[2] / 'dev/benchmark_scale_out.py'


@pytest.fixture(scope='module')
def tool():
    spec = importlib.util.spec_from_file_location('benchmark_scale_out', TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_videos(tool, tmp_path):
    args = Namespace(videos=4, min_frames=2, max_frames=60, expressions=2, seed=0)
    costs = tool.make_videos(tmp_path, args)
    dataset = MovingShapesDataset(
        data_root=str(tmp_path / 'valid_u'), pipeline=[LoadRefVOSGroundTruth()])
    assert BalancedVideoSampler(dataset).costs == costs
    items = [dataset[i] for i in range(4)]
    assert sorted(len(item['frame_names']) for item in items) == [2, 6, 19, 60]
    for item in items:
        assert all(Path(path).is_file() for path in item['img_paths'])
        assert 1 <= len(item['expressions']) <= 2
        assert all(len(track) == len(item['frame_names']) for track in item['gt_rles'])


@pytest.mark.parametrize('option', [('--processes', '1'), ('--min-frames', '0'),
                                    ('--max-frames', '2')])
def test_options_that_cannot_be_used(tool, monkeypatch, capsys, option):
    monkeypatch.setattr('sys.argv', ['benchmark_scale_out.py', *option])
    with pytest.raises(SystemExit) as stop:
        tool.parse_args()
    assert stop.value.code == 2 and 'expected at least 2 processes' in capsys.readouterr().err
