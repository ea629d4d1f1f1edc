"""Long-RVOS, Ref-SAV, GroundMoRe, MOSEv2: the figures of their published evaluators."""

import json
import shutil

import numpy as np
import pytest

from glus_mm.apis.mask_evaluation import evaluate_masks
from glus_mm.evaluation.functional import adaptive_boundary_accuracy, boundary_accuracy
from glus_mm.evaluation.metrics import RefVOSMetric
from glus_mm.evaluation.protocols import LongRVOSProtocol, MeViSProtocol, MOSEv2Protocol, Track


def assert_close(found, expected, scale=1):
    """All figures of ``expected`` to 1e-9."""
    figures = {name: value for name, value in expected.items() if not isinstance(value, str)}
    assert figures
    for name, value in figures.items():
        assert abs(found[name] - value / scale) <= 1e-9, name


def assert_rows(found, expected):
    for key, figures in expected.items():
        assert_close(found[key], figures)


@pytest.fixture(scope='module')
def expected(recent_evaluators):
    return json.loads((recent_evaluators / 'expected.json').read_text())


@pytest.fixture(scope='module')
def long_rvos(evaluators):
    root = evaluators / 'longrvos'
    return evaluate_masks('long-rvos', root / 'valid', root / 'pred', missing='empty')


def test_long_rvos(evaluators, long_rvos):
    found = long_rvos.document()
    expected = json.loads((evaluators / 'longrvos' / 'expected.json').read_text())
    assert_rows(found['per_expression'], expected['per_expression'])
    assert set(expected['dataset']) == {'static', 'dynamic', 'hybrid', 'overall'}
    for part, figures in expected['dataset'].items():
        assert_close(found['dataset'][part], figures)
    assert_close(found['dataset'], expected['dataset']['overall'])
    assert found['notes']['scored_zero'] == ['vid001']
    assert found['dataset']['other_expressions'] == 7
    assert '7 expressions of a type other than static, dynamic, static+dynamic' in long_rvos.table()
    visible = found['per_frame']['vid003_0']['visible']
    assert [t for t, value in enumerate(visible) if value] == [3, 6, 7], 'those with a file'
    root = evaluators / 'longrvos'
    with pytest.raises(FileNotFoundError, match="video 'vid000', expression '0'.*missing in all"):
        evaluate_masks('long-rvos', root / 'valid', root / 'pred')


def test_long_rvos_hybrid(evaluators, expected, long_rvos, tmp_path):
    """'static+dynamic' is the word that the official script looks for."""
    shutil.copytree(evaluators / 'longrvos' / 'valid', tmp_path / 'valid')
    file = tmp_path / 'valid' / 'meta_expressions.json'
    file.write_text(file.read_text().replace('"hybrid"', '"static+dynamic"'))
    found = evaluate_masks('long-rvos', tmp_path / 'valid', evaluators / 'longrvos' / 'pred',
                           missing='empty').document()
    rows = expected['long_rvos_hybrid']['per_expression']
    assert_rows(found['per_expression'], rows)
    assert_close(found['dataset']['hybrid'], {
        name: np.mean([row[name] for row in rows.values()]) for name in ('J', 'F', 'tIoU', 'vIoU')})
    assert found['dataset']['overall']['expressions'] == 23
    assert_close(found['dataset']['static'], long_rvos.document()['dataset']['static'])


def test_figures_of_time():
    def figures(j, visible, found):
        return LongRVOSProtocol().track_figures(Track('d', 'v', '0', {
            'J': j, 'F': j, 'visible': visible, 'found': found}))

    assert figures([1.0, 1.0], [0.0, 0.0], [0.0, 0.0])['tIoU'] == 1
    row = figures([0.5, 0.0, 0.0, 1.0], [1, 1, 0, 0], [1, 0, 1, 0])
    assert row['tIoU'] == 1 / 3 and row['vIoU'] == 0.5 / 3
    # Absent at first, which is no disappearance; seen, gone, seen.
    visible = [0.0, 1.0, 0.0, 0.0, 1.0]
    values = {'J': [1.0, 0.5, 0.0, 0.5, 1.0], 'F-dot': [1.0, 0.5, 0.0, 0.5, 0.0],
              'F': [1.0] * 5, 'visible': visible}
    row = MOSEv2Protocol().track_figures(Track('m', 'v', '1', values))
    assert row['J&F-d'] == 0.25 and row['J&F-r'] == (0.75 + 0.25) / 2
    values['visible'] = [1.0] * 5
    assert not {'J&F-d', 'J&F-r'} & set(MOSEv2Protocol().track_figures(
        Track('m', 'v', '1', values)))


def test_ref_sav_as_unipixel_reports_it(recent_evaluators, expected):
    root = recent_evaluators / 'ref_sav'
    found = evaluate_masks('ref-sav', root / 'valid', root / 'pred', missing='empty').document()
    expected = expected['ref_sav_unipixel']
    assert_rows(found['per_expression'], expected['per_expression'])
    assert_close(found['dataset'], expected['dataset'])
    assert found['notes']['scored_zero'] == ['sav_000003']
    assert {name: round(100 * found['dataset'][name], 2)
            for name in ('J', 'F', 'J&F')} == expected['dataset_percent_rounded']


@pytest.mark.parametrize('pred', ['pred', 'results.json'])
def test_ref_sav_as_sa2va_reports_it(recent_evaluators, expected, pred):
    root = recent_evaluators / 'ref_sav'
    evaluation = evaluate_masks('ref-sav', root / 'valid', root / pred, missing='skip',
                                pred_format='auto')
    found, expected = evaluation.document(), expected['ref_sav_sa2va']
    assert_rows(found['per_expression'], expected['per_expression'])
    for part, figures in expected['dataset_percent'].items():
        assert_close(found['dataset'][part], figures, scale=100)
    assert 'overall' in evaluation.table()


def test_groundmore(recent_evaluators, expected):
    root = recent_evaluators / 'groundmore'
    found = evaluate_masks('groundmore', root, root / 'pred', missing='empty').document()
    expected = expected['groundmore']
    assert_rows(found['per_expression'], expected['per_expression'])
    assert_close(found['dataset'], expected['dataset'])
    assert set(found['per_kind']) == set(expected['per_kind'])
    assert_rows(found['per_kind'], expected['per_kind'])
    assert all(len(values['J']) == 20 for values in found['per_frame'].values())


def test_mose_v2(recent_evaluators, expected):
    root = recent_evaluators / 'mose'
    evaluation = evaluate_masks('mose-v2', root, root / 'pred', missing='empty')
    found, expected = evaluation.document(), expected['mose_v2']
    for key, values in expected['per_frame'].items():
        for name, figures in values.items():
            assert found['per_frame'][key][name] == figures, 'bit by bit'
    assert set(found['per_object']) == set(expected['per_object'])
    assert_rows(found['per_object'], expected['per_object'])
    assert_close(found['dataset'], expected['dataset'])
    assert found['notes']['scored_zero'] == ['m4none'] and found['dataset']['objects'] == 13
    assert 'J&F-dot' in evaluation.table()
    root = recent_evaluators / 'mose'
    one, two = (evaluate_masks('mose-v2', root, root / 'pred', missing='skip', workers=workers)
                for workers in (1, 2))
    assert one.document() == two.document()
    with pytest.raises(ValueError, match="expected ann_root.*protocol='mose-v2'"):
        RefVOSMetric(protocol='mose-v2')


@pytest.mark.parametrize('size', [(240, 427), (480, 854), (61, 83)])
def test_boundary_of_small_and_large_objects(size):
    """The tolerance follows the object, up to that of F."""
    rows, columns = np.mgrid[:size[0], :size[1]]
    small = (rows - size[0] // 2)**2 + (columns - size[1] // 2)**2 < (size[0] / 24)**2
    shifted = np.roll(small, size[0] // 60 + 1, 1)
    f, f_dot = adaptive_boundary_accuracy(small, shifted)
    assert f_dot <= f
    if size[0] > 200:
        assert f == boundary_accuracy(small, shifted) and f_dot < f
    assert adaptive_boundary_accuracy(small, small) == (1, 1)
    assert adaptive_boundary_accuracy(small, small & False) == (0, 0)
    assert adaptive_boundary_accuracy(small & False, small & False) == (1, 1)
    assert adaptive_boundary_accuracy(small & False, small) == (0, 0)
    transposed = (np.asfortranarray(small), np.asfortranarray(shifted))
    assert adaptive_boundary_accuracy(*transposed) == (f, f_dot)


def test_mevis_v2_final():
    """The mean of three, and said to be inferred."""
    tracks = [Track('d', 'v', '0', {'J': [0.5], 'F': [0.7]}),
              Track('d', 'v', '1', {'J': [1.0], 'F': [1.0]}, has_target=False, predicted=False),
              Track('d', 'v', '2', {'J': [0.0], 'F': [0.0]}, has_target=False)]
    protocol = MeViSProtocol()
    summary = protocol.summarise(tracks)
    assert summary.dataset['Final'] == pytest.approx((0.6 + 0.5 + 1) / 3)
    assert 'inferred' in protocol.table(summary).splitlines()[-1]
    assert 'Final' in protocol.document(tracks, summary)['inferred']
    only_targets = protocol.summarise(tracks[:1])
    assert 'Final' not in only_targets.dataset
    assert 'inferred' not in protocol.document(tracks[:1], only_targets)
