"""The result of a run: keys, frames, slices, and what it becomes for other programs."""

import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from glus_mm.apis import Segmentation
from glus_mm.apis.result_files import ResultFiles
from glus_mm.utils.masks import encode_mask
from glus_mm.video import open_reader

TEXTS = ('the circle', 'the star')
MASKS = np.zeros((2, 4, 6, 8), dtype=bool)
MASKS[0, :, 1:3, 2:5] = True
MASKS[1, 2:, 4:, 6:] = True


@pytest.fixture
def reader():
    return open_reader([np.full((6, 8, 3), t, np.uint8) for t in range(4)])


@pytest.fixture
def out(reader):
    out = Segmentation.begin('clip', TEXTS, reader, ('scores', ))
    for e, track in enumerate(MASKS):
        out.masks[e].rles[:] = map(encode_mask, track)
    out.scores[:] = np.arange(8).reshape(2, 4) / 10
    out.is_seg[:], out.made[:], out.key_frames = MASKS.any((2, 3)), True, [0, 2]
    out.clicks = {1: [dict(frame=3, points=[[7, 5]], labels=[1], box=None)]}
    return out


def test_keys_and_slices(out):
    part = out[1:4:2]
    assert isinstance(part, Segmentation) and len(part) == 2 and list(part.frame_ids) == [1, 3]
    assert part.frame_names == ('00001', '00003') and part.key_frames == [0, 2]
    assert (part.frame_masks(1) == MASKS[:, 3]).all()
    assert part.scores.tolist() == out.scores[:, [1, 3]].tolist()
    frames = list(out)
    assert [len(frame) for frame in frames] == [1] * 4
    assert all((frame.frame_masks() == MASKS[:, t]).all() for t, frame in enumerate(frames))
    assert list(out[-1].frame_ids) == [3]
    with pytest.raises(IndexError):
        out[4]
    assert out['expressions'] is out['texts'] is out.texts == TEXTS
    assert (out['masks'][1][3] == MASKS[1, 3]).all() and (out.masks[1][3] == MASKS[1, 3]).all()
    assert 'scores' in out and 'presence' not in out and 'nothing' not in out
    assert out.get('presence') is None and out.get('key_frames') == [0, 2]
    with pytest.raises(KeyError, match=r"expected one of \['texts', .*'clicks'\], got 'presence'"):
        out['presence']
    out.masks = None
    assert out['masks'] is None, 'as always where masks were handed over'
    with pytest.raises(ValueError, match='those of clip were handed over'):
        out.to_coco()


def test_supervision(out, monkeypatch):
    supervision = pytest.importorskip('supervision')
    found = out.to_supervision(2)
    assert isinstance(found, supervision.Detections)
    assert (found.mask == MASKS[:, 2]).all() and found.class_id.tolist() == [0, 1]
    assert found.xyxy.tolist() == [[2, 1, 4, 2], [6, 4, 7, 5]]
    assert found.data['class_name'].tolist() == list(TEXTS)
    assert found.confidence == pytest.approx([0.2, 0.6])
    one = out[0].to_supervision()
    assert one.tracker_id.tolist() == [0], 'a text without a mask on the frame has no detection'
    drawn = supervision.MaskAnnotator().annotate(np.zeros((6, 8, 3), np.uint8), found)
    assert (drawn.any(-1) == MASKS[:, 2].any(0)).all()
    nothing = out[:1]
    nothing.masks[0].rles[0] = None
    assert len(nothing.to_supervision()) == 0
    out.trained_scores = ()
    assert out.to_supervision(2).confidence is None
    monkeypatch.setitem(sys.modules, 'supervision', None)
    with pytest.raises(ImportError, match='not installed: pip install supervision'):
        out.to_supervision(2)


def test_one_schema_with_the_files(out, reader, tmp_path):
    """``to_coco`` is what ``format='coco'`` writes, ``to_dict`` is ``results.json``."""
    with ResultFiles(tmp_path, 'clip', reader, TEXTS, 'coco') as files:
        for t in range(4):
            files(t, [0, 1], SimpleNamespace(masks=torch.from_numpy(MASKS[:, t])))
        files.finish(out, torch.nn.Identity())
    written = json.loads((tmp_path / 'clip' / 'coco.json').read_text())
    assert written == json.loads(json.dumps(out.to_coco()))
    assert [entry['score'] for entry in written['annotations']][-1] == pytest.approx(0.7)
    document = json.loads((tmp_path / 'clip' / 'results.json').read_text())
    assert document['model']['type'] == 'Identity' and document['masks']['format'] == 'coco'
    assert dict(document, model=None, masks=None) == json.loads(json.dumps(out.to_dict()))
    assert document['texts'][1]['clicks'] == out.clicks[1]
