"""Predictions in the forms in which other systems write them."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from glus_mm.apis.mask_evaluation import evaluate_masks
from glus_mm.utils.masks import encode_mask

SIZE, FRAMES = (21, 34), ['00000', '00005', '00010', '00020']
VIDEOS = ('vid_a', 'vid_b')
EXPRESSIONS = {'0': [1], '1': [2], '2': [1, 2], '3': []}
PALETTE = [0, 0, 0, 128, 0, 0, 0, 128, 0] + [64] * 759


def masks_of(video, predicted):
    """By object, masks (T, H, W); object 2 is hidden on the first frame."""
    masks = {}
    for number, (top, left) in {1: (2, 3), 2: (9, 12)}.items():
        masks[number] = np.zeros((len(FRAMES), *SIZE), dtype=bool)
        for t in range(len(FRAMES)):
            if number == 1 or t:
                shift = t + VIDEOS.index(video) + predicted * number
                masks[number][t, top:top + 8, left + shift:left + 9 + shift] = True
    return masks


def union(masks, objects):
    return sum((masks[number] for number in objects), np.zeros((len(FRAMES), *SIZE), bool)) > 0


@pytest.fixture(scope='module')
def truth(tmp_path_factory):
    root = tmp_path_factory.mktemp('truth')
    videos, tracks = {}, {}
    for v, video in enumerate(VIDEOS):
        for number, masks in masks_of(video, 0).items():
            tracks[str(10 * v + number)] = [encode_mask(m) if m.any() else None for m in masks]
        videos[video] = {'frames': FRAMES, 'expressions': {
            exp: {'exp': 'it', 'obj_id': objects, 'anno_id': [10 * v + o for o in objects]}
            for exp, objects in EXPRESSIONS.items()}}
    (root / 'meta_expressions.json').write_text(json.dumps({'videos': videos}))
    (root / 'mask_dict.json').write_text(json.dumps(tracks))
    return root


def save(path, array, mode=None, palette=False):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(array)
    if palette:
        image.putpalette(PALETTE)
    (image.convert(mode) if mode else image).save(path)


def expression_tree(change):
    """A writer of ``<video>/<exp>/<frame>.png``."""
    def write(root):
        for video in VIDEOS:
            for exp, objects in EXPRESSIONS.items():
                for frame, mask in zip(FRAMES, union(masks_of(video, 1), objects)):
                    change(root / video / exp / f'{frame}.png', mask.astype(np.uint8))
        return root
    return write


write_grey = expression_tree(lambda path, mask: save(path, mask * np.uint8(255)))


def inside(folder, write):
    def nested(root):
        write(root / folder)
        (root / folder / 'failed_0.json').write_text('[]')
        return root
    return nested


def write_objects(root):
    for video in VIDEOS:
        for number, masks in masks_of(video, 1).items():
            for frame, mask in zip(FRAMES, masks):
                save(root / video / str(number) / f'{frame}.png', mask * np.uint8(255))
    return root


def write_labels(root):
    """Label maps hold one object per pixel; these do not overlap."""
    for video in VIDEOS:
        masks = masks_of(video, 1)
        assert not (masks[1] & masks[2]).any()
        for t, frame in enumerate(FRAMES):
            labels = masks[1][t] + 2 * masks[2][t].astype(np.uint8)
            save(root / video / f'{frame}.png', labels.astype(np.uint8), palette=True)
    return root


def rle_lists(null=False, uncompressed=False):
    for video in VIDEOS:
        for exp, objects in EXPRESSIONS.items():
            masks = union(masks_of(video, 1), objects)
            rles = [None if null and not m.any() else encode_mask(m) for m in masks]
            if uncompressed:
                rles = [{'size': list(SIZE), 'counts': runs(m)} for m in masks]
            yield video, exp, rles


def runs(mask):
    """Run lengths of a mask, column by column, the first of background."""
    values = mask.T.ravel().astype(int)
    borders = np.flatnonzero(np.diff(values)) + 1
    lengths = np.diff([0, *borders, values.size]).tolist()
    return [0, *lengths] if values[0] else lengths


def write_json(content):
    def write(root):
        root.mkdir(parents=True, exist_ok=True)
        (root / 'results.json').write_text(json.dumps(content()))
        return root
    return write


def sa2va():
    content = {}
    for video, exp, rles in rle_lists():
        content.setdefault(video, {})[exp] = {
            'index': 0, 'video_id': video, 'exp_id': exp, 'text_prediction': 'Sure, [SEG].',
            'frames': FRAMES, 'exp': 'it', 'prediction_masks': rles}
    return content


def nested_lists():
    content = {}
    for video, exp, rles in rle_lists(null=True):
        content.setdefault(video, {})[exp] = rles
    return content


def ytvis():
    return [{'video_id': video, 'exp_id': int(exp), 'category_id': 1, 'score': 0.5,
             'segmentations': rles} for video, exp, rles in rle_lists(null=True)]


def coco():
    return [{'video_id': video, 'expression_id': exp, 'file_name': f'{video}/{frame}.jpg',
             'segmentation': rle} for video, exp, rles in rle_lists(uncompressed=True)
            for frame, rle in zip(FRAMES, rles)]


def write_npz(root):
    for video, exp, _ in rle_lists():
        (root / video).mkdir(parents=True, exist_ok=True)
        np.savez_compressed(root / video / f'{exp}.npz', union(masks_of(video, 1),
                                                              EXPRESSIONS[exp]))
    return root


def write_flat_npz(root):
    root.mkdir(parents=True, exist_ok=True)
    for video, exp, _ in rle_lists():
        np.savez(root / f'{video}_{exp}.npz', masks=255 * union(
            masks_of(video, 1), EXPRESSIONS[exp]).astype(np.uint8))
    return root


def write_video_npz(root):
    root.mkdir(parents=True, exist_ok=True)
    for video in VIDEOS:
        np.savez(root / f'{video}.npz', **{
            exp: union(masks_of(video, 1), objects).astype(np.int32)
            for exp, objects in EXPRESSIONS.items()})
    return root


FORMS = {
    'grey': ('png-any', write_grey),
    'zero and one': ('png-any', expression_tree(save)),
    'palette': ('png-any', expression_tree(lambda path, mask: save(path, 2 * mask, palette=True))),
    'one bit': ('png-any', expression_tree(lambda path, mask: save(path, mask * np.uint8(255),
                                                                   '1'))),
    'colours': ('png-any', expression_tree(lambda path, mask: save(
        path, np.stack([0 * mask, mask * 128, 0 * mask], 2).astype(np.uint8)))),
    'grey with alpha': ('png-any', expression_tree(lambda path, mask: save(
        path, mask * np.uint8(255), 'LA'))),
    'below Annotations': ('png-any', inside('Annotations', write_grey)),
    'two folders deep': ('png-any', inside('work_dir/Annotations', write_grey)),
    'objects': ('png-objects', write_objects),
    'labels': ('png-labels', write_labels),
    'Sa2VA': ('json', write_json(sa2va)),
    'lists by video': ('json', write_json(nested_lists)),
    'lists by name': ('json', write_json(
        lambda: {f'{video}_{exp}': rles for video, exp, rles in rle_lists()})),
    'YouTube-VIS': ('json', write_json(ytvis)),
    'COCO, run lengths': ('json', write_json(coco)),
    'archives': ('npz', write_npz),
    'archives by name': ('npz', write_flat_npz),
    'an archive for each video': ('npz', write_video_npz),
}


@pytest.fixture(scope='module')
def plain(truth, tmp_path_factory):
    """Figures of the form that is read by default."""
    root = write_grey(tmp_path_factory.mktemp('plain') / 'pred')
    document = evaluate_masks('mevis', truth, root).document()
    assert 0.2 < document['dataset']['J'] < 0.9 and document['dataset']['N-acc'] == 1
    return document


@pytest.mark.parametrize('name', FORMS)
def test_forms(truth, plain, tmp_path, name):
    pred_format, write = FORMS[name]
    root = write(tmp_path / 'pred')
    found = evaluate_masks('mevis', truth, root, pred_format='auto').document()
    assert found['notes'].pop('pred_format') == pred_format
    assert found == plain
    if name not in ('below Annotations', 'two folders deep'):
        path = root / 'results.json' if pred_format == 'json' else root
        # Processes get the same reader for all forms of a format: one form of each shows it.
        first = next(form for form in FORMS if FORMS[form][0] == pred_format)
        explicit = evaluate_masks('mevis', truth, path, pred_format=pred_format,
                                  workers=2 if name == first else 1)
        assert explicit.document()['per_frame'] == plain['per_frame']


def test_values_of_bytes_are_kept(evaluators):
    """A and R of ReVOS see the values that were written."""
    ann, pred = evaluators / 'revos', evaluators / 'pred'
    one, other = (evaluate_masks('revos', ann, pred, pred_format=name).document()
                  for name in ('png', 'auto'))
    assert other['notes'].pop('pred_format') == 'png-any'
    assert one == other


def test_long_rvos_in_run_lengths(evaluators, tmp_path):
    """Frames without a file are missing in both; a video without predictions is scored 0."""
    root, content = evaluators / 'longrvos', {}
    for file in sorted((root / 'pred').rglob('*.png')):
        video, exp, frame = file.parts[-3:]
        entry = content.setdefault(video, {}).setdefault(exp, {'frames': [], 'masks': []})
        entry['frames'].append(frame)
        entry['masks'].append(encode_mask(np.asarray(Image.open(file))))
    (tmp_path / 'all.json').write_text(json.dumps(content))
    found, expected = (evaluate_masks('long-rvos', root / 'valid', pred, missing='empty',
                                      pred_format=name).document()
                       for pred, name in ((tmp_path / 'all.json', 'auto'), (root / 'pred', 'png')))
    assert found['per_expression'] == expected['per_expression']
    assert found['notes']['missing'] == expected['notes']['missing']
    assert found['notes']['scored_zero'] == ['vid001']


def edit(change):
    """A writer of Sa2VA's form with a change."""
    def content():
        found = sa2va()
        change(found)
        return found
    return write_json(content)


def first(content):
    return content['vid_a']['1']


def test_missing_and_extra(truth, tmp_path):
    def change(content):
        del content['vid_b']['2']
        content['vid_c'] = content['vid_b']
        content['vid_a']['9'] = content['vid_a']['1']

    root = edit(change)(tmp_path / 'pred')
    with pytest.raises(FileNotFoundError, match="results.json: expected a predicted mask for video "
                       "'vid_b', expression '2', frame '00000'.*in all: 4"):
        evaluate_masks('mevis', truth, root, pred_format='auto')
    notes = evaluate_masks('mevis', truth, root, pred_format='auto', missing='skip').notes
    assert notes['missing']['frames'] == {'vid_b/2': 4}
    assert set(notes['not_asked_for']) == {'vid_a/9', 'vid_c/0', 'vid_c/1', 'vid_c/3'}
    with pytest.raises(ValueError, match='expected only predictions of the annotation'):
        evaluate_masks('mevis', truth, root, pred_format='auto', missing='skip', extra='error')


BROKEN_JSON = {
    'no JSON': (lambda root: write_text(root, '{"vid_a": '), 'expected a JSON file'),
    'a number': (lambda root: write_text(root, '3'), 'expected a JSON object or array'),
    'no masks': (write_json(lambda: {'vid_a': 3}), "key 'vid_a': expected the masks"),
    'entries without ids': (write_json(lambda: [{'segmentations': []}]),
                            'entry 0: expected one of the keys video_id'),
    'entries without expressions': (write_json(lambda: [{'video_id': 3, 'segmentations': []}]),
                                    'entry 0: expected one of the keys exp_id'),
    'entries without masks': (write_json(lambda: [{'video_id': 'vid_a', 'exp_id': '1'}]),
                              'entry 0: expected masks under one of prediction_masks'),
    'entries without frames': (write_json(lambda: [
        {'video_id': 'vid_a', 'exp_id': '1', 'segmentation': None}]),
        'entry 0: expected one of the keys frame'),
    'two entries': (write_json(lambda: ytvis() + ytvis()[1:2]),
                    "expression '1', frame '00000': expected one mask, got two"),
    'a frame too few': (edit(lambda c: (first(c).pop('frames'),
                                        first(c)['prediction_masks'].pop())),
                        "video 'vid_a', expression '1': expected a mask or null for each of the 4"),
    'an unknown frame': (edit(lambda c: first(c).update(frames=['1', '2', '3', '4'])),
                         "video 'vid_a', expression '1': expected only masks of the 4 frames"),
    'masks a text': (edit(lambda c: first(c).update(prediction_masks='x')),
                     "'vid_a', '1': expected|expression '1'.*got"),
    'another size': (edit(lambda c: first(c)['prediction_masks'][2].update(size=[3, 3])),
                     "expression '1'.*00010.*\\(21, 34\\), got \\(3, 3\\)"),
    'corrupt runs': (edit(lambda c: first(c)['prediction_masks'][2].update(counts='PPPP0')),
                     "expression '1'.*00010.*runs"),
    'no RLE': (edit(lambda c: first(c)['prediction_masks'].__setitem__(2, [[1, 2, 3]])),
               "expression '1'.*00010.*expected null or an RLE"),
    'short runs': (edit(lambda c: first(c)['prediction_masks'][2].update(counts=[3, 4])),
                   "expression '1', frame '00010': expected run lengths that cover 21 x 34"),
    'negative runs': (edit(lambda c: first(c)['prediction_masks'][2].update(
        counts=[-1, 21 * 34 + 1])), "frame '00010': expected run lengths"),
}


def write_text(root, text):
    root.mkdir()
    (root / 'results.json').write_text(text)
    return root


def replace_array(array=None, **arrays):
    def write(root):
        write_npz(root)
        values = {'arr_0': array} if array is not None else arrays
        np.savez(root / 'vid_a' / '1.npz', **values)
        return root
    return write


def cut(root):
    file = write_npz(root) / 'vid_a' / '1.npz'
    file.write_bytes(file.read_bytes()[:-40])
    return root


def flip(root):
    file = write_npz(root) / 'vid_a' / '1.npz'
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 0xff
    file.write_bytes(bytes(data))
    return root


BROKEN_NPZ = {
    'cut': (cut, 'cannot be read'),
    'a text': (lambda root: (write_npz(root) / 'vid_a/1.npz').write_text('x') and root,
               'cannot be read'),
    'a byte flipped': (flip, 'cannot be read|expected'),
    'another size': (replace_array(np.zeros((4, 9, 9), bool)), r'\(21, 34\), got \(9, 9\)'),
    'a frame less': (replace_array(np.zeros((3, *SIZE), bool)), r'4 frames, got shape \(3, 21'),
    'two axes': (replace_array(np.zeros(SIZE, bool)), r'4 frames, got shape \(21, 34\)'),
    'floats': (replace_array(np.zeros((4, *SIZE))), 'expected bool or integers, got float64'),
    'objects': (replace_array(np.array([[[{}]]] * 4, dtype=object)),
                'expected bool or integers, got object'),
    'columns first': (replace_array(np.zeros((4, *SIZE), bool, order='F')), 'order of columns'),
    'two arrays': (replace_array(a=np.zeros(3), b=np.zeros(3)), 'expected one array'),
}


def test_missing_and_mixed(truth, tmp_path):
    root = write_npz(tmp_path / 'pred')
    (root / 'vid_b' / '0.npz').rename(root / 'vid_b' / '7.npz')
    with pytest.raises(FileNotFoundError, match="0.npz: expected a predicted mask for video 'vid_b'"
                       ", expression '0'"):
        evaluate_masks('mevis', truth, root, pred_format='npz')
    notes = evaluate_masks('mevis', truth, root, pred_format='npz', missing='skip').notes
    assert notes['not_asked_for'] == ['vid_b/7.npz']
    write_grey(tmp_path / 'mixed')
    write_npz(tmp_path / 'npz')
    shutil.rmtree(tmp_path / 'mixed' / 'vid_b')
    shutil.move(tmp_path / 'npz' / 'vid_b', tmp_path / 'mixed' / 'vid_b')
    with pytest.raises(ValueError, match=r'videos of several forms \(folders, npz\)'):
        evaluate_masks('mevis', truth, tmp_path / 'mixed', pred_format='auto')


def remove(*paths):
    def write(root):
        write_grey(root)
        for path in paths:
            shutil.rmtree(root / path)
        return root
    return write


def beside(root):
    write_grey(root)
    (root / 'vid_b').rename(root / 'vid_c')
    (root / 'vid_a').rename(root / 'vid_d')
    return root


def only_text(root):
    (root / 'logs').mkdir(parents=True)
    (root / 'logs' / 'run.txt').write_text('')
    return root


UNCLEAR = {
    'other videos': (beside, r"such as 'vid_a'.*png, .*got 2 folders \('vid_c', 'vid_d'\)"),
    'no predictions': (only_text, r"got 1 files \('run.txt'\)"),
    'expressions that may be objects': (
        remove(*(f'{video}/{exp}' for video in VIDEOS for exp in '023')),
        'folders that may be those of expressions or of objects'),
    'a file': (lambda root: root.write_bytes(b'') and root or root, "got the file 'pred'"),
}


@pytest.mark.parametrize('table, name, parts', [
    *((BROKEN_JSON, name, ['results.json']) for name in BROKEN_JSON),
    *((BROKEN_NPZ, name, ["video 'vid_a', expression '1'", '1.npz']) for name in BROKEN_NPZ),
    *((UNCLEAR, name, ['/pred', 'pred_format says which']) for name in UNCLEAR)],
    ids=lambda value: value if isinstance(value, str) else '')
def test_what_cannot_be_read(truth, tmp_path, table, name, parts):
    write, message = table[name]
    root = write(tmp_path / 'pred')
    with pytest.raises(ValueError, match=message) as error:
        evaluate_masks('mevis', truth, root, pred_format='auto')
    assert all(part in str(error.value) for part in parts), error.value
    assert table is not BROKEN_JSON or '\n' not in str(error.value)


@pytest.mark.parametrize('name', ['vid_b/0 vid_b/3', 'vid_b', 'vid_a/1 vid_a/2 vid_a/3 vid_b'])
def test_trees_that_are_not_complete(truth, tmp_path, name):
    """What is there shows that the folders are those of expressions, and the rest is missing."""
    root = remove(*name.split())(tmp_path / 'pred')
    notes = evaluate_masks('mevis', truth, root, pred_format='auto', missing='empty').notes
    assert notes['pred_format'] == 'png-any'
    assert notes['missing']['frames'] == {
        f'{video}/{exp}': 4 for video in VIDEOS for exp in EXPRESSIONS
        if not (root / video / exp).exists()}


def test_options(truth, evaluators, tmp_path):
    with pytest.raises(ValueError, match="pred_format must be one of .'auto', .*, got 'mp4'"):
        evaluate_masks('mevis', truth, tmp_path, pred_format='mp4')
    with pytest.raises(ValueError, match="expected 'png' or 'auto' for davis-semi"):
        evaluate_masks('davis-semi', evaluators / 'davis', tmp_path, pred_format='json')
    with pytest.raises(FileNotFoundError, match='nowhere: expected a folder or file'):
        evaluate_masks('mevis', truth, tmp_path / 'nowhere', pred_format='auto')


@pytest.mark.parametrize('name', ['lists by video', 'objects', 'archives'])
def test_only_predictions_state_a_size(truth, tmp_path, name):
    """Videos without a target, and expressions for which nothing says how large masks are."""
    (tmp_path / 'ann').mkdir()
    content = json.loads((truth / 'meta_expressions.json').read_text())
    for video in content['videos'].values():
        for expression in video['expressions'].values():
            expression.update(obj_id=[], anno_id=[])
    (tmp_path / 'ann' / 'meta_expressions.json').write_text(json.dumps(content))
    shutil.copy(truth / 'mask_dict.json', tmp_path / 'ann')
    pred_format, write = FORMS[name]
    path = write(tmp_path / 'pred')
    found = evaluate_masks('mevis', tmp_path / 'ann', path / 'results.json' if pred_format == 'json'
                           else path, pred_format=pred_format).summary.dataset
    # Nobody asks for objects, of which there are none.
    assert found['N-acc'] == (1 if name == 'objects' else 0.25)


def test_labels_need_numbers(evaluators, tmp_path):
    write_labels(tmp_path / 'pred')
    ann = tmp_path / 'ann'
    shutil.copytree(evaluators / 'longrvos' / 'valid', ann)
    meta = json.loads((ann / 'meta_expressions.json').read_text())
    meta['videos']['vid000']['expressions']['0']['obj_id'] = 'dog'
    (ann / 'meta_expressions.json').write_text(json.dumps(meta))
    with pytest.raises(ValueError, match="expression '0': expected the number of an object"):
        evaluate_masks('long-rvos', ann, tmp_path / 'pred', pred_format='png-labels')
