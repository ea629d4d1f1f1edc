"""evaluate_masks: the official evaluators' figures, missing masks, workers."""

import functools
import json
import shutil

import cv2
import numpy as np
import pytest
from PIL import Image

from glus_mm.apis.mask_evaluation import evaluate_masks
from glus_mm.evaluation.functional import boundary_accuracy, region_similarity
from glus_mm.utils.masks import encode_mask

OFFICIAL = {'J-Mean': 'J', 'F-Mean': 'F', 'J&F-Mean': 'J&F', 'JF': 'J&F'}
PLACES = {
    'mevis': ('mevis/valid_u', 'pred'),
    'revos': ('revos', 'pred'),
    'ref-davis-glus': ('refdavis', 'pred_refdavis_exp'),
    'reason-vos': ('reasonvos', 'pred'),
    'ref-davis': ('davis', 'pred_davis'),
    'davis-semi': ('davis', 'pred_davis/anno_0'),
    'davis-unsup': ('davis', 'pred_davis/anno_0'),
}


@functools.cache
def run(root, protocol, **options):
    ann, pred = PLACES[protocol]
    return evaluate_masks(protocol, root / ann, root / pred, **options).document()


def expected_of(root):
    return json.loads((root / 'expected.json').read_text())


def assert_close(found, expected, scale=1):
    """All figures of ``expected``, under their official names, to 1e-9."""
    assert expected
    for name, value in expected.items():
        assert abs(found[OFFICIAL.get(name, name)] - value / scale) <= 1e-9, name


def assert_rows(found, expected):
    assert set(found) == set(expected)
    for key, values in expected.items():
        assert_close(found[key], values)


def assert_frames(found, expected):
    """Every figure of every frame, bit by bit; the official evaluators have no J&F there."""
    for values in found.values():
        both = [(j + f) / 2 for j, f in zip(values['J'], values['F'])]
        assert values['J&F'] == both
    assert {key: {name: figures for name, figures in values.items() if name != 'J&F'}
            for key, values in found.items()} == expected


def test_mevis(evaluators):
    found, expected = run(evaluators, 'mevis'), expected_of(evaluators)['mevis']
    assert_frames(found['per_frame'], expected['per_frame'])
    assert_rows(found['per_expression'], expected['per_expression'])
    assert_close(found['dataset'], expected['dataset'])
    assert found['notes']['grey_frames'] == 2
    assert found['notes']['not_asked_for'] == [
        f'{video}/4' for video in ('0a1b2c3d4e5f', 'b7_under_score', 'c480p0000001',
                                   'd4edgecases0')]


@pytest.mark.parametrize('value,name', [(None, 'pred255'), (255, 'pred255'), (1, 'pred01')])
def test_revos(evaluators, value, name):
    found = run(evaluators, 'revos', pred_values=value)
    expected = expected_of(evaluators)['revos'][name]
    assert_frames(found['per_frame'], expected['per_frame'])
    assert_rows(found['per_expression'], expected['per_expression_unrounded'])
    assert set(expected['dataset_percent']) == {'referring', 'reason', 'overall'}
    for part, figures in expected['dataset_percent'].items():
        assert_close(found['dataset'][part], figures, scale=100)
    assert_close(found['dataset'], expected['dataset_percent']['overall'], scale=100)
    assert found['per_expression']['0a1b2c3d4e5f_4']['kind'] == 'hallucination'
    assert found['notes']['pred_values'] == (value or 255)


def test_ref_davis_glus(evaluators):
    found = run(evaluators, 'ref-davis-glus')
    expected = expected_of(evaluators)['refdavis_glus_visa']
    assert_frames(found['per_frame'], expected['per_frame'])
    assert_rows(found['per_expression'], expected['per_expression'])
    assert_close(found['dataset'], expected['dataset_unrounded'])
    assert {name: round(100 * found['dataset'][name], 2)
            for name in ('J', 'F', 'J&F')} == expected['dataset_percent_rounded']


@pytest.mark.parametrize('masks', ['mask_dict.json', 'Annotations'])
def test_ref_davis_glus_from_the_training_layout(evaluators, tmp_path, masks):
    """The folder that configs read, with the masks as one file or as palette PNGs."""
    (tmp_path / 'meta_expressions' / 'valid').mkdir(parents=True)
    (tmp_path / 'valid').mkdir()
    shutil.copy(evaluators / 'refdavis' / 'meta_expressions.json',
                tmp_path / 'meta_expressions' / 'valid')
    if masks == 'Annotations':
        shutil.copytree(evaluators / 'davis/Annotations/480p',
                        tmp_path / 'valid' / masks)
    else:
        shutil.copy(evaluators / 'refdavis' / masks, tmp_path / 'valid')
    found = evaluate_masks('ref-davis-glus', tmp_path, evaluators / 'pred_refdavis_exp')
    assert found.document() == run(evaluators, 'ref-davis-glus')


def official_reason_vos_key(key):
    """``<source>_<video>_<object>_<expression>`` to ``<video>_<expression>``."""
    video, _, expression = key.split('_', 1)[1].rsplit('_', 2)
    return f'{video}_{expression}'


def test_reason_vos(evaluators):
    with pytest.raises(FileNotFoundError, match=r"99/00000.png: expected .*'0a1b2c3d4e5f', "
                       r"expression '99', frame '00000', .*missing in all: 12, in folders: 1;"):
        run(evaluators, 'reason-vos')
    found = run(evaluators, 'reason-vos', missing='skip')
    expected = expected_of(evaluators)['reasonvos']
    for part in ('per_frame', 'per_expression'):
        expected[part] = {official_reason_vos_key(key): v for key, v in expected[part].items()}
    assert_frames(found['per_frame'], expected['per_frame'])
    assert_rows(found['per_expression'], expected['per_expression'])
    assert_close(found['dataset'], expected['dataset'])
    assert found['notes']['missing'] == {'policy': 'skip', 'frames': {'0a1b2c3d4e5f/99': 12}}
    assert run(evaluators, 'reason-vos', missing='empty')['dataset']['expressions'] == 8


def assert_davis(found, expected):
    assert_frames(found['per_frame'], expected['per_frame'])
    assert set(found['per_object']) == set(expected['per_object'])
    for key, measures in expected['per_object'].items():
        for name, values in measures.items():
            assert_close(found['per_object'][key], {
                name: values['M'], f'{name}-Recall': values['R'], f'{name}-Decay': values['D']})
    assert_close(found['dataset'], expected['global'])


@pytest.mark.parametrize('annotator', range(4))
@pytest.mark.parametrize('protocol,task', [('davis-semi', 'semi-supervised'),
                                           ('davis-unsup', 'unsupervised')])
def test_davis(evaluators, protocol, task, annotator):
    expected = expected_of(evaluators)['davis2017_evaluation'][task][f'anno_{annotator}']
    pred = evaluators / 'pred_davis' / f'anno_{annotator}'
    if 'error' in expected:
        with pytest.raises(ValueError, match=r"dog-b/00001.png: expected numbers of objects up to "
                           r"1 for sequence 'dog-b', frame '00001', got 2"):
            evaluate_masks(protocol, evaluators / 'davis', pred)
        return
    assert_davis(evaluate_masks(protocol, evaluators / 'davis', pred).document(), expected)


def test_ref_davis(evaluators):
    found = run(evaluators, 'ref-davis')
    expected = expected_of(evaluators)['davis2017_evaluation']['unsupervised']
    mean = expected.pop('mean_over_annotators')
    assert mean.pop('n_annotators') == 4
    assert_close(found['dataset'], mean)
    assert set(expected) == set(found['per_annotator'])
    for name, part in expected.items():
        assert_davis(found['per_annotator'][name], part)
    values = [part['per_object']['late-d_2']['F']['M'] for part in expected.values()]
    assert found['per_object']['late-d_2']['F'] == pytest.approx(np.mean(values), abs=1e-12)
    values = [part['per_frame']['late-d_2']['J'] for part in expected.values()]
    np.testing.assert_allclose(found['per_frame']['late-d_2']['J'], np.mean(values, axis=0))
    # Results are in the order of the proposals, also where that is not the order of the objects.
    rows = found['per_annotator']['anno_1']['per_object']
    assert [rows[f'boat-a_{n}']['object'] for n in (1, 2, 3)] == [3, 2, 1]


@pytest.mark.parametrize('protocol', ['revos', 'ref-davis'])
def test_workers_do_not_change_a_digit(evaluators, protocol):
    assert run(evaluators, protocol, workers=3) == run(evaluators, protocol)


def test_first_error_comes_out_of_the_workers(evaluators, tmp_path):
    shutil.copytree(evaluators / 'pred', tmp_path / 'pred')
    for video, frame in (('b7_under_score', '00005'), ('d4edgecases0', '00001')):
        (tmp_path / 'pred' / video / '2' / f'{frame}.png').write_bytes(b'')
    for workers in (1, 2):
        with pytest.raises(ValueError, match="00005.png: .*'b7_under_score', expression '2'"):
            evaluate_masks('mevis', evaluators / 'mevis' / 'valid_u', tmp_path / 'pred',
                           workers=workers)


@pytest.fixture
def holes(evaluators, tmp_path):
    """Predictions of which one expression lacks two frames, and another one all."""
    shutil.copytree(evaluators / 'pred', tmp_path / 'pred')
    folder = tmp_path / 'pred' / 'b7_under_score'
    for frame in ('00000', '00025'):
        (folder / '1' / f'{frame}.png').unlink()
    shutil.rmtree(folder / '3')
    return tmp_path / 'pred'


def test_missing_masks(evaluators, holes):
    with pytest.raises(FileNotFoundError) as error:
        evaluate_masks('mevis', evaluators / 'mevis' / 'valid_u', holes)
    assert str(error.value) == (
        f"{holes}/b7_under_score/1/00000.png: expected a predicted mask for video "
        "'b7_under_score', expression '1', frame '00000', got nothing there (masks missing in all: "
        '12, in folders: 2; missing=empty or skip says how to count them); nobody asked for '
        f'{holes}/b7_under_score/4')
    whole = run(evaluators, 'mevis')
    found = evaluate_masks('mevis', evaluators / 'mevis' / 'valid_u', holes,
                           missing='empty').document()
    assert set(found['per_frame']) == set(whole['per_frame'])
    for key, values in whole['per_frame'].items():
        gone = {'b7_under_score_1': (0, 5), 'b7_under_score_3': range(10)}.get(key, ())
        for t, (j, f) in enumerate(zip(values['J'], values['F'])):
            got = found['per_frame'][key]['J'][t], found['per_frame'][key]['F'][t]
            # With nothing predicted J is 0 or, where nothing is visible, 1; F likewise.
            assert got in ((0, 0), (1, 1)) if t in gone else got == (j, f)
    assert found['per_expression']['b7_under_score_3']['predicted'] is False
    assert found['dataset']['expressions'] == 16
    assert found['dataset']['J'] == pytest.approx(
        np.mean([values['J'] for values in found['per_expression'].values()]), abs=1e-12)
    found = evaluate_masks('mevis', evaluators / 'mevis' / 'valid_u', holes,
                           missing='skip').document()
    whole = run(evaluators, 'mevis')
    gone = {'b7_under_score_1', 'b7_under_score_3'}
    assert set(found['per_expression']) == set(whole['per_expression']) - gone
    assert found['dataset']['expressions'] == 14
    assert found['dataset']['J'] == pytest.approx(np.mean(
        [values['J'] for key, values in whole['per_expression'].items() if key not in gone]))
    assert found['notes']['missing']['frames'] == {'b7_under_score/1': 2, 'b7_under_score/3': 10}


@pytest.mark.parametrize('protocol', ['mevis', 'revos', 'ref-davis-glus', 'davis-unsup'])
def test_nothing_is_left_after_skipping(evaluators, tmp_path, protocol):
    (tmp_path / 'pred').mkdir()
    with pytest.raises(ValueError, match='expected predictions of at least one'):
        evaluate_masks(protocol, evaluators / PLACES[protocol][0], tmp_path / 'pred',
                       missing='skip')


@pytest.mark.parametrize('protocol', PLACES)
def test_nothing_predicted_at_all(evaluators, tmp_path, protocol):
    """No mask to take a size from: those of the annotation are enough."""
    for a in range(4):
        (tmp_path / 'pred' / f'anno_{a}').mkdir(parents=True)
    pred = tmp_path / 'pred'
    if protocol != 'ref-davis':
        pred = pred / 'anno_0'
    found = evaluate_masks(protocol, evaluators / PLACES[protocol][0], pred,
                           missing='empty').document()
    assert set(found['per_frame']) >= set(run(evaluators, protocol,
                                              missing='skip')['per_frame'])
    for values in found['per_frame'].values():
        assert set(values['J']) <= {0, 1}


def test_missing_sequence(evaluators, tmp_path):
    shutil.copytree(evaluators / 'pred_davis', tmp_path / 'pred')
    (tmp_path / 'pred' / 'anno_2' / 'car-c' / '00003.png').unlink()
    ann = evaluators / 'davis'
    with pytest.raises(FileNotFoundError, match="anno_2, sequence 'car-c', frame '00003'"):
        evaluate_masks('ref-davis', ann, tmp_path / 'pred')
    skipped = evaluate_masks('ref-davis', ann, tmp_path / 'pred', missing='skip').document()
    assert 'car-c_1' not in skipped['per_annotator']['anno_2']['per_object']
    assert 'car-c_1' in skipped['per_annotator']['anno_1']['per_object']
    # The first and the last frame do not count when semi-supervised, and need not be there.
    folder = tmp_path / 'pred' / 'anno_2'
    shutil.copy(folder / 'car-c' / '00002.png', folder / 'car-c' / '00003.png')
    for name in ('00000', '00007'):
        (folder / 'car-c' / f'{name}.png').unlink()
    assert evaluate_masks('davis-semi', ann, folder).document()['dataset']['objects'] == 8
    with pytest.raises(FileNotFoundError, match="sequence 'car-c', frame '00000'"):
        evaluate_masks('davis-unsup', ann, folder)


def write_mevis(root, frames=3, size=(20, 30), no_target=False):
    """A video with one expression, and one without a target."""
    mask = np.zeros(size, np.uint8)
    mask[4:12, 5:20] = 255
    rle = None
    if not no_target:
        rle = encode_mask(mask)
    names = [f'{t:05d}' for t in range(frames)]
    expressions = {'1': {'exp': 'nothing', 'obj_id': [], 'anno_id': []}}
    masks = {'7': [None, *[rle] * (frames - 1)]}
    if not no_target:
        expressions['0'] = {'exp': 'a box', 'obj_id': [1], 'anno_id': [7]}
    (root / 'ann').mkdir()
    (root / 'ann' / 'meta_expressions.json').write_text(json.dumps(
        {'videos': {'v': {'frames': names, 'expressions': expressions}}}))
    (root / 'ann' / 'mask_dict.json').write_text(json.dumps(masks))
    for exp in expressions:
        (root / 'pred' / 'v' / exp).mkdir(parents=True)
        for name in names:
            Image.fromarray(mask if exp == '0' else 0 * mask).save(
                root / 'pred' / 'v' / exp / f'{name}.png')
    return mask


def test_expressions_without_target(tmp_path):
    mask = write_mevis(tmp_path)
    found = evaluate_masks('mevis', tmp_path / 'ann', tmp_path / 'pred')
    empty = np.zeros_like(mask)
    assert_frames(found.document()['per_frame'], {
        'v_0': {'J': [region_similarity(empty, mask), 1, 1],
                'F': [boundary_accuracy(empty, mask), 1, 1]},
        'v_1': {'J': [1, 1, 1], 'F': [1, 1, 1]}})
    assert found.summary.dataset['N-acc'] == 1 and found.summary.dataset['T-acc'] == 1
    assert 'N-acc 100.00 (1 expressions without a target)' in found.table()
    shutil.copy(tmp_path / 'pred/v/0/00001.png', tmp_path / 'pred/v/1/00001.png')
    found = evaluate_masks('mevis', tmp_path / 'ann', tmp_path / 'pred')
    assert found.summary.dataset['N-acc'] == 0
    assert found.summary.dataset['J'] == pytest.approx(2 / 3)
    # The other expressions of the video say which size its masks must have.
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / 'pred/v/1/00002.png')
    with pytest.raises(ValueError, match=r"1/00002.png: .*\(20, 30\) for video 'v', expression "
                       r"'1', frame '00002', got \(8, 8\)"):
        evaluate_masks('mevis', tmp_path / 'ann', tmp_path / 'pred')


@pytest.mark.parametrize('predicted', [True, False])
def test_no_mask_states_a_size(tmp_path, predicted):
    write_mevis(tmp_path, no_target=True)
    if not predicted:
        shutil.rmtree(tmp_path / 'pred' / 'v')
    found = evaluate_masks('mevis', tmp_path / 'ann', tmp_path / 'pred', missing='empty')
    assert found.summary.dataset == {'N-acc': 1.0, 'no_target_expressions': 1}


def test_revos_without_foreground_file(evaluators, tmp_path):
    """The union of the expressions' objects, which is what that file holds."""
    shutil.copytree(evaluators / 'revos', tmp_path / 'revos')
    (tmp_path / 'revos' / 'mask_dict_foreground.json').unlink()
    found = evaluate_masks('revos', tmp_path / 'revos', evaluators / 'pred').document()
    assert found == run(evaluators, 'revos')


def test_nested_videos(evaluators, tmp_path):
    """ReVOS has ids such as UVO/all/abc, which are paths of the predictions, too."""
    shutil.copytree(evaluators / 'revos', tmp_path / 'revos')
    (tmp_path / 'pred' / 'UVO').mkdir(parents=True)
    meta_file = tmp_path / 'revos' / 'meta_expressions_valid_.json'
    videos = json.loads(meta_file.read_text())['videos']
    foreground_file = tmp_path / 'revos' / 'mask_dict_foreground.json'
    foreground = json.loads(foreground_file.read_text())
    renamed = {name: f'UVO/all/{name}' for name in videos}
    meta_file.write_text(json.dumps(
        {'videos': {renamed[name]: video for name, video in videos.items()}}))
    foreground_file.write_text(json.dumps(
        {renamed[name]: entry for name, entry in foreground.items()}))
    shutil.copytree(evaluators / 'pred', tmp_path / 'pred' / 'UVO' / 'all')
    found = evaluate_masks('revos', tmp_path / 'revos', tmp_path / 'pred').document()
    assert found['dataset'] == run(evaluators, 'revos')['dataset']
    assert 'UVO/all/d4edgecases0_0' in found['per_frame']


@pytest.mark.parametrize('options,message', [
    (dict(protocol='davis'), "protocol must be one of .'mevis', .*, got 'davis'"),
    (dict(workers=0), 'workers must .* got 0'),
    (dict(workers='2'), "workers must .* got '2'"),
    (dict(missing='drop'), "missing must be one of .'error', 'empty', 'skip'., got 'drop'"),
    (dict(extra='ignore'), "extra must be one of .'warn', 'error'., got 'ignore'"),
    (dict(pred_values=128), 'pred_values must be one of .None, 255, 1., got 128'),
    (dict(protocol='davis-semi', pred_values=255), 'pred_values: expected none for davis-semi'),
])
def test_options_that_do_not_fit(evaluators, options, message):
    options = dict(dict(protocol='mevis', ann_root=evaluators / 'mevis' / 'valid_u',
                        pred_dir=evaluators / 'pred'), **options)
    with pytest.raises(ValueError, match=message):
        evaluate_masks(**options)


def test_workers_start_where_opencv_has_threads_already(evaluators):
    """A forked child that ends the threads that OpenCV has in its parent would wait for ever."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(4)
    try:
        cv2.resize(np.zeros((2000, 2000, 3), np.uint8), (3000, 3000))  # starts them
        assert run(evaluators, 'revos', workers=2) == run(evaluators, 'revos')
        assert cv2.getNumThreads() == 4
    finally:
        cv2.setNumThreads(before)
