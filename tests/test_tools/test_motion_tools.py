"""Probes of a test, reversal, linear probes and ceiling: each measures what is planted."""

import json
import sys

import cv2
import numpy as np
import pytest

import programs
from glus_mm.datasets.moving_shapes import write_split
from programs import ROOT

TOOLS = ROOT / 'dev'
CONFIG = ROOT / 'configs' / 'glus' / 'glus_tiny_moving-shapes.py'
CHECKPOINT = ROOT / 'checkpoints' / 'glus_tiny_moving-shapes.pth'
# A tool of the maintainers.
pytestmark = pytest.mark.slow


@pytest.fixture(scope='module', autouse=True)
def tools_path():
    sys.path.insert(0, str(TOOLS))
    yield
    sys.path.remove(str(TOOLS))


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    return write_split(tmp_path_factory.mktemp('shapes'), 8, seed=7, split='valid_u', mp4=False)


def test_linear_probes_find_what_is_linear_and_nothing_else():
    from probe_layers import probe_classes, probe_places
    rng = np.random.default_rng(0)
    videos = np.repeat(np.arange(60), 10)
    features = rng.normal(size=(600, 20))
    places = features[:, :2] * [0.1, 0.2] + 0.5
    found = probe_places(features + 0.01 * rng.normal(size=features.shape), places, videos)
    assert found.figure < 1 and found.chance > 15 and found.number == 600
    nothing = probe_places(rng.normal(size=(600, 20)), places, videos)
    assert nothing.figure > 0.97 * nothing.chance
    # A rare class counts as much as a common one.
    labels = np.where(features[:, 3] > 1.5, 'rare', 'common')
    found = probe_classes(features, labels, videos)
    assert found.figure > 90 and found.chance == 50
    noise = probe_classes(rng.normal(size=(600, 20)), labels, videos)
    assert 35 < noise.figure < 65
    assert probe_classes(features, ['one'] * 600, videos) is None
    # More dimensions than samples.
    wide = np.concatenate([features, 0.3 * features @ rng.normal(size=(20, 700))], 1)
    assert probe_classes(wide, labels, videos).figure > 90


def test_share_of_turns():
    reversal = programs.load(TOOLS / 'moving_shapes_reversal.py')
    cases = [dict(video_id=f'v{i // 2}', forward=0.2, backward=0.2 + 0.1 * (i % 4 != 3))
             for i in range(400)]
    figures = reversal.share_of_turns(cases)
    assert figures['turns'] == pytest.approx(75) and figures['cases'] == 400
    assert 69 < figures['low'] < 75 < figures['high'] < 81
    with pytest.raises(ValueError, match='about a direction'):
        reversal.share_of_turns([])


def run(module, *args, monkeypatch, capsys):
    programs.forget_runs()
    monkeypatch.setattr('sys.argv', ['tool', *map(str, args)])
    module.main()
    return capsys.readouterr().out


def table(text):
    rows = [line.strip('| ').split(' | ') for line in text.splitlines() if line.startswith('| ')]
    return {row[0]: dict(zip(rows[0][1:], row[1:])) for row in rows[1:]}


def test_a_test_with_probes(root, tmp_path, monkeypatch, capsys):
    data = f'test_dataloader.dataset.data_root={root}'
    out = run(programs.load(ROOT / 'tools' / 'test.py'), CONFIG, CHECKPOINT, '--probe', 'reverse',
              'swap', '--work-dir', tmp_path / 'run', '--out', tmp_path / 'masks', '--dump',
              tmp_path / 'f.json', '--cfg-options', data, 'test_dataloader.dataset.indices=3',
              monkeypatch=monkeypatch, capsys=capsys)
    rows = table(out[out.index('| J&F'):])
    total = rows['all with a target']
    assert list(total) == ['n', 'video', 'reverse', 'swap', 'n of swap']
    for name, column in (('f', 'video'), ('f_reverse', 'reverse'), ('f_swap', 'swap')):
        figures = json.loads((tmp_path / f'{name}.json').read_text())
        assert f'{100 * figures["dataset"]["J&F"]:.2f}' == total[column]
    # Words matter to the model, and what is asked for is another object.
    assert float(total['swap']) < float(total['video']) - 20
    names = sorted(path.name for path in (tmp_path / 'masks_reverse').rglob('*.png'))
    assert names == sorted(path.name for path in (tmp_path / 'masks').rglob('*.png'))


def test_reversal_of_a_model_that_knows_the_truth(root, tmp_path, monkeypatch, capsys):
    """Masks of the opposite object on the video backward: it turns in every case."""
    reversal = programs.load(TOOLS / 'moving_shapes_reversal.py')
    objects = json.loads((root / 'objects.json').read_text())
    for video in reversal.load_videos(str(root)):
        assert video.objects == objects[video.video_id]
        for exp_id, item in video.expressions.items():
            opposite = reversal.find_opposite(item['exp'], video.objects)
            own = video.target(item['obj_id'])
            for folder, masks in (('pred', own),
                                  ('back', video.target(opposite) if opposite else own)):
                place = tmp_path / folder / video.video_id / exp_id
                place.mkdir(parents=True)
                for name, mask in zip(video.frame_names, masks):
                    cv2.imwrite(str(place / f'{name}.png'), mask.astype(np.uint8) * 255)
    reversal.main([str(root), '--pred', str(tmp_path / 'pred'), '--reversed-pred',
                   str(tmp_path / 'back'), '--out', str(tmp_path / 'turns.json')])
    figures = json.loads((tmp_path / 'turns.json').read_text())
    assert figures['cases'] == len(figures['per_case']) >= 2
    assert figures['turns'] == figures['backward'] == 100
    assert figures['low'] is None, 'eight videos are too few for an interval'
    reversal.main([str(root), '--pred', str(tmp_path / 'pred'), '--reversed-pred',
                   str(tmp_path / 'pred')])
    assert '| 0.0 | - |' in capsys.readouterr().out


def test_probes_and_ceiling_of_the_shipped_model(root, tmp_path, monkeypatch, capsys):
    data = f'test_dataloader.dataset.data_root={root}'
    probes = programs.load(TOOLS / 'probe_layers.py')
    out = run(probes, CONFIG, CHECKPOINT, '--out', tmp_path / 'p.json', '--cfg-options', data,
              monkeypatch=monkeypatch, capsys=capsys)
    rows = table(out[out.index('| stage'):])
    assert {'vision tower', 'projector', 'LLM 1', 'answer, LLM 1', 'seg token'} <= set(rows)
    assert float(rows['vision tower']['colour']) > 40  # chance is below 25
    written = json.loads((tmp_path / 'p.json').read_text())
    assert {row['stage'] for row in written} <= set(rows)
    out = run(programs.load(TOOLS / 'point_ceiling.py'), CONFIG, CHECKPOINT, '--videos', 3,
              '--cfg-options', data, monkeypatch=monkeypatch, capsys=capsys)
    assert float(table(out)['all with a target']['true point']) > 60
