"""dev/random_7b.py at the size tiny: the whole way on a CPU."""

import json

import pytest
import torch

import programs
from programs import ROOT


@pytest.mark.slow
def test_write_convert_load_run(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(ROOT / 'dev'))
    tool = programs.load(ROOT / 'dev' / 'random_7b.py')
    folder = tmp_path / 'out'
    monkeypatch.setattr('sys.argv', ['random_7b.py', str(folder), '--size', 'tiny', '--frames',
                                     '4', '--keep'])
    tool.main()
    report = json.loads((folder / 'report.json').read_text())
    assert report['shards'] >= 2 and report['convert_s'] > 0
    shards = sorted((folder / 'official').glob('*.bin'))
    assert len(shards) == report['shards']
    assert all(file.stat().st_size < 1.1e6 for file in shards)
    for figures in report['runs'].values():
        assert figures['steps'] == figures['steps_with_seg'] == 4 * 3
        assert 0.01 < figures['mask_area'] < 0.99, 'masks that say nothing'
        assert figures['frames_per_s'] > 0
    assert report['agreement']['iou_mean'] > 0.9
    assert 'agreement.iou_mean' in capsys.readouterr().out
    weights = torch.load(folder / 'converted' / 'model.pth', weights_only=True)['state_dict']
    assert weights['mllm.lm_head.weight'].any(1).sum() == 1, 'nothing but [SEG] is said'
    assert {value.dtype for value in weights.values()} == {torch.bfloat16}
    monkeypatch.setattr('sys.argv', ['random_7b.py', str(folder), '--size', 'tiny'])
    with pytest.raises(SystemExit):
        tool.main()
    assert 'expected an empty folder' in capsys.readouterr().err
