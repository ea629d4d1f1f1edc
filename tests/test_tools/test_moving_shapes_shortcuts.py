"""The shortcuts of a tiny split, whose figures are known."""

import json

import numpy as np
import pytest

import programs
from glus_mm.evaluation.functional import boundary_accuracy, region_similarity
from glus_mm.utils.masks import encode_mask
from programs import ROOT

FILE = ROOT / 'dev' / 'moving_shapes_shortcuts.py'
SIZE = (40, 60)
BOXES = {'big': np.s_[4:16, 4:20], 'small': np.s_[24:30, 40:46], 'silent': np.s_[30:38, 4:12]}
# A tool of the maintainers.
pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def tool():
    return programs.load(FILE)


def box(name, t):
    mask = np.zeros(SIZE, bool)
    mask[BOXES[name]] = True
    return np.roll(mask, t, 1)


def jf(pairs):
    pairs = list(pairs)
    return 50 * (np.mean([region_similarity(*pair) for pair in pairs])
                 + np.mean([boundary_accuracy(*pair) for pair in pairs]))


@pytest.fixture
def split(tmp_path):
    """Two videos of three frames; in the second one the small object is hidden at first."""
    expressions = [('appearance', [0]), ('motion', [1]), ('group', [0, 1]), ('no-target', [])]
    videos, masks = {}, {}
    for index, video in enumerate(('a', 'b')):
        videos[video] = {
            'frames': ['00000', '00001', '00002'], 'height': SIZE[0], 'width': SIZE[1],
            'expressions': {
                str(i): {'exp': 'a shape', 'kind': kind, 'obj_id': ids,
                         'anno_id': [3 * index + i for i in ids]}
                for i, (kind, ids) in enumerate(expressions)}}
        for i, name in enumerate(BOXES):
            masks[str(3 * index + i)] = [
                None if (video, name, t) == ('b', 'small', 0) else encode_mask(box(name, t))
                for t in range(3)]
    root = tmp_path / 'valid_u'
    root.mkdir()
    (root / 'meta_expressions.json').write_text(json.dumps({'videos': videos}))
    (root / 'mask_dict.json').write_text(json.dumps(masks))
    (root / 'objects.json').write_text(json.dumps({video: [{}] * len(BOXES) for video in videos}))
    return root


def targets(video, exp_id):
    """True masks (T) of an expression."""
    names = {'0': ['big'], '1': ['small'], '2': ['big', 'small'], '3': []}[exp_id]
    masks = []
    for t in range(3):
        hidden = (video, t) == ('b', 0)
        parts = [box(name, t) for name in names if not (hidden and name == 'small')]
        masks.append(np.any([np.zeros(SIZE, bool), *parts], axis=0))
    return masks


def test_shortcuts(tool, split, capsys):
    tool.main([str(split)])
    table = capsys.readouterr().out.splitlines()
    assert table[0] == '| J&F in % | n | everything | largest | centre blob |'
    assert [line.split(' | ')[0] for line in table[2:]] == [
        '| appearance', '| group', '| motion', '| all with a target']
    rows = tool.measure(str(split))['per_kind']
    hidden = [('a', t) for t in range(3)] + [('b', t) for t in range(3)]
    # All objects, among them the one that no expression refers to.
    everything = [np.any([targets(v, '2')[t], box('silent', t)], axis=0) for v, t in hidden]
    for kind, exp_id in (('appearance', '0'), ('motion', '1'), ('group', '2')):
        gt = [targets(v, exp_id)[t] for v, t in hidden]
        assert rows[kind]['everything'] == pytest.approx(jf(zip(gt, everything)))
        assert rows[kind]['largest'] == pytest.approx(
            jf((mask, box('big', t)) for mask, (_, t) in zip(gt, hidden)))
    assert rows['appearance']['largest'] == 100
    assert rows['all with a target']['n'] == 6
    assert rows['all with a target']['everything'] == pytest.approx(
        np.mean([rows[kind]['everything'] for kind in ('appearance', 'group', 'motion')]))
