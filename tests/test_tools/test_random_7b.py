"""dev/random_7b.py at the size tiny: the whole way on a CPU."""

import json

import numpy as np
import pytest
import torch

import programs
from programs import ROOT


@pytest.fixture(scope='module')
def tool():
    return programs.load(ROOT / 'dev' / 'random_7b.py')


@pytest.mark.slow
def test_write_convert_load_run(tool, tmp_path, monkeypatch, capsys):
    folder = tmp_path / 'out'
    monkeypatch.setattr('sys.argv', ['random_7b.py', str(folder), '--size', 'tiny', '--frames',
                                     '4', '--keep'])
    tool.main()
    report = json.loads((folder / 'report.json').read_text())
    assert report['shards'] >= 2 and report['convert_s'] > 0
    shards = sorted((folder / 'official').glob('*.bin'))
    assert len(shards) == report['shards']
    assert all(file.stat().st_size < 1.2e6 for file in shards)
    for figures in report['runs'].values():
        assert figures['steps'] == figures['steps_with_seg'] == 4 * 3
        assert 0.01 < figures['mask_area'] < 0.99, 'masks that say nothing'
        assert figures['frames_per_s'] > 0
    assert report['agreement']['iou_mean'] > 0.9
    assert 'agreement.iou_mean' in capsys.readouterr().out
    weights = torch.load(folder / 'converted' / 'model.pth', weights_only=True)['state_dict']
    assert weights['mllm.lm_head.weight'].count_nonzero() == 1
    assert {value.dtype for value in weights.values()} == {torch.bfloat16}
    monkeypatch.setattr('sys.argv', ['random_7b.py', str(folder), '--size', 'tiny'])
    with pytest.raises(SystemExit):
        tool.main()
    assert 'expected an empty folder' in capsys.readouterr().err


def test_compare_and_seg(tool):
    first = np.zeros((1, 2, 4, 4), bool)
    second = first.copy()
    second[0, 1, 0, 0] = True
    figures = tool.compare(first, second)
    assert (figures['iou_mean'], figures['iou_min'], figures['iou_first_frame']) == (0.5, 0, 1)
    assert figures['pixels_that_differ'] == 1 / 32
    # No layer writes to the marked dimension, and only [SEG] looks at it.
    generator = torch.Generator().manual_seed(0)

    def make(name, *shape):
        return tool._make(name, torch.Size(shape), generator, {}, seg_id=2)

    mark = torch.tensor(tool.MARK).bfloat16()
    assert (make('model.embed_tokens.weight', 3, 8)[:, tool.MARKED] == mark).all()
    for name in ('layers.0.self_attn.o_proj', 'layers.0.mlp.down_proj', 'mm_projector'):
        weight = make(f'model.{name}.weight', 8, 4)
        assert (weight[tool.MARKED] == 0).all() and weight[1:].std() > 0
    assert make('model.mm_projector.bias', 8)[tool.MARKED] == mark
    head = make('lm_head.weight', 3, 8)
    assert head[2, tool.MARKED] == 1 and head.count_nonzero() == 1
    assert (make('model.norm.weight', 8) == 1).all()
