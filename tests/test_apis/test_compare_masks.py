"""Slices, their attributes, and the comparison of two systems with its page."""

import json
import shutil

import cv2
import numpy as np
import pytest

from glus_mm.apis.mask_evaluation import compare_masks, evaluate_masks, open_expressions
from glus_mm.apis.mask_evaluation.compare_masks import slice_figures
from glus_mm.apis.mask_evaluation.expression_attributes import expression_attributes
from glus_mm.evaluation.slices import SLICE_RULES
from glus_mm.utils.masks import encode_mask, write_mask_png

HOSTILE = '<script>window.hacked=1</script><img src=x onerror="window.hacked=1"> & "quotes"'
SIZE = (48, 64)


def box(left, top, width, height, size=SIZE):
    mask = np.zeros(size, dtype=bool)
    mask[top:top + height, left:left + width] = True
    return mask


def write_set(root, videos, images=None):
    """Write ``{video: (tracks by object, {exp: (text, objects)})}`` in the layout of MeViS."""
    meta, masks = {}, {}
    for video, (tracks, expressions) in videos.items():
        number = len(next(iter(tracks.values())))
        first = len(masks)
        anno = {name: first + place for place, name in enumerate(tracks)}
        for name, track in tracks.items():
            masks[str(anno[name])] = [None if mask is None else encode_mask(mask)
                                      for mask in track]
        meta[video] = {
            'frames': [f'{t:05d}' for t in range(number)],
            'expressions': {exp: {'exp': text, 'obj_id': [int(name) for name in names],
                                  'anno_id': [anno[name] for name in names]}
                            for exp, (text, names) in expressions.items()}}
        for t, image in enumerate((images or {}).get(video, ())):
            folder = root / 'JPEGImages' / video
            folder.mkdir(parents=True, exist_ok=True)
            assert cv2.imwrite(str(folder / f'{t:05d}.jpg'), image)
    root.mkdir(parents=True, exist_ok=True)
    (root / 'meta_expressions.json').write_text(json.dumps({'videos': meta}))
    (root / 'mask_dict.json').write_text(json.dumps(masks))
    return root


def attributes_of(root, video='a'):
    table = expression_attributes(open_expressions('mevis', root))
    return {exp: found for (of, exp), found in table.items() if of == video}


def test_attributes_by_hand(tmp_path):
    here, gone = box(10, 10, 8, 6), None
    # Seen from the third of eight frames on, away on one of the six after that.
    late = [gone, gone, here, here, gone, here, here, here]
    # Half of the box of object 1 is in that of object 2, on one frame.
    other = [box(40, 10, 8, 6)] * 7 + [box(14, 10, 8, 6)]
    root = write_set(tmp_path, {'a': (
        {'1': late, '2': other, '3': [gone] * 8},
        {'0': ('the one that comes late', '1'), '1': ('both', '12'),
         '2': ('it is never seen at all by anyone, not even for a single moment', '3'),
         '3': ('nothing', '')})})
    found = attributes_of(root)
    area = 100 * 48 / (48 * 64)
    assert found['0'] == {
        'kind': None, 'words': 5, 'look_alikes': 2, 'size': pytest.approx(area, abs=1e-6),
        'first_seen': 25, 'occlusion': pytest.approx(100 * 1.5 / 6, abs=1e-6), 'camera': None,
        'frames': 8}
    # Two boxes on four frames, one on three, and on the last one 8 + 4 columns of them.
    sizes = np.array([1, 1, 2, 2, 1, 2, 2, 1.5]) * area
    assert found['1']['size'] == pytest.approx(sizes.mean(), abs=1e-6)
    assert found['1']['first_seen'] == 0 and found['1']['look_alikes'] == 1
    assert found['1']['occlusion'] == pytest.approx(100 * (1.5 / 6 + 0.5 / 8) / 2, abs=1e-6)
    for exp in '23':
        assert [found[exp][name] for name in ('size', 'first_seen', 'occlusion')] == [None] * 3
    assert found['2']['words'] == 14 and found['3']['look_alikes'] == 3


@pytest.mark.parametrize('step', [0.0, 1.0, 3.0])
def test_camera_motion_is_that_of_the_background(tmp_path, step):
    """The picture moves by so many pixels a frame, and a large object against it."""
    size, number = (120, 160), 9
    rng = np.random.default_rng(0)
    ground = cv2.GaussianBlur(rng.integers(0, 256, (size[0], 2 * size[1], 3), np.uint8), (7, 7), 0)
    thing = rng.integers(0, 256, (60, 60, 3), np.uint8)
    images, track = [], []
    for t in range(number):
        shift = np.float32([[1, 0, -step * t], [0, 1, 0]])
        image = cv2.warpAffine(ground, shift, (2 * size[1], size[0]))[:, :size[1]]
        left = 90 - 8 * t
        image[30:90, left:left + 60] = thing
        images.append(image)
        track.append(box(left, 30, 60, 60, size))
    videos = {'a': ({'1': track}, {'0': ('the thing', '1')})}
    root = write_set(tmp_path, videos, {'a': images})
    camera = attributes_of(root)['0']['camera']
    assert camera == pytest.approx(100 * step / np.hypot(*size), abs=0.05)
    (root / 'JPEGImages' / 'a' / '00004.jpg').write_bytes(b'no image')
    with pytest.raises(ValueError, match=r'00004.jpg: expected an image'):
        attributes_of(root)


def test_camera_without_corners_or_with_one_frame_is_unknown(tmp_path):
    grey = np.full((*SIZE, 3), 90, np.uint8)
    videos = {name: ({'1': [box(5, 5, 9, 9)] * number}, {'0': ('it', '1')})
              for name, number in (('a', 3), ('b', 1))}
    root = write_set(tmp_path, videos, {'a': [grey] * 3, 'b': [grey]})
    assert attributes_of(root)['0']['camera'] is None
    assert attributes_of(root, 'b')['0']['camera'] is None


def test_bins():
    rules = {rule.name: rule for rule in SLICE_RULES}
    assert [rules['size'].bin_of(value) for value in (0.99, 1, 19.9, 20)] == [
        'below 1 %', '1 to 5 %', '5 to 20 %', '20 % and more']
    assert [rules['first_seen'].bin_of(value) for value in (0, 1, 25, None)] == [
        'first frame', 'first quarter', 'later', None]
    assert rules['look_alikes'].bins([5, 0, None, 2]) == ['none', '2 or 3', '4 and more']
    assert rules['kind'].bins(['b', None, 'a']) == ['a', 'b']


# Two systems

NUM_VIDEOS = 24


@pytest.fixture(scope='module')
def systems(tmp_path_factory):
    """A set, and two systems: 'second' has the truth for small targets; 'first' never quite."""
    root = tmp_path_factory.mktemp('systems')
    rng = np.random.default_rng(0)
    videos, images = {}, {}
    for number in range(NUM_VIDEOS):
        small, large = box(8, 8, 4, 5), box(24, 12, 26, 22)
        videos[f'v{number:02d}'] = (
            {'1': [small] * 4, '2': [large] * 4},
            {'0': (HOSTILE if number == 2 else 'the small one', '1'),
             '1': ('the large one', '2'), '2': ('the one that is not there', '')})
        images[f'v{number:02d}'] = [rng.integers(0, 256, (*SIZE, 3), np.uint8) for _ in range(4)]
    write_set(root / 'ann', videos, images)
    for name in ('first', 'second'):
        for number, (video, (tracks, expressions)) in enumerate(videos.items()):
            for exp, (_, objects) in expressions.items():
                folder = root / name / video / exp
                folder.mkdir(parents=True)
                mask = tracks[objects][0] if objects else np.zeros(SIZE, bool)
                if exp == '0' and name == 'first':
                    mask = np.roll(mask, 2 + number % 3, axis=1)
                if exp == '1':
                    mask = np.roll(mask, int(rng.integers(-4, 5)), axis=1)
                if exp == '2' and name == 'first' and number < 4:
                    mask = tracks['2'][0]
                for t in range(4):
                    write_mask_png(folder / f'{t:05d}.png', mask)
    return root


@pytest.fixture(scope='module')
def compared(systems):
    return compare_masks('mevis', systems / 'ann', (systems / 'first', systems / 'second'))


def test_rows(compared, systems):
    comparison = compared.comparison
    rows = {(row.rule.name if row.rule else 'all', row.label): row for row in comparison.rows}
    assert ('frames', 'up to 40') not in rows, 'it has all expressions and says nothing new'
    figures = [evaluate_masks('mevis', systems / 'ann', systems / name).summary.dataset
               for name in comparison.names]
    overall = rows['all', 'all']
    assert (overall.first, overall.second) == pytest.approx([row['J&F'] for row in figures])
    assert overall.difference.mean == pytest.approx(overall.second - overall.first)
    assert overall.p == overall.difference.p
    no_target = rows['no_target', 'N-acc']
    assert (no_target.first, no_target.second) == pytest.approx([row['N-acc'] for row in figures])
    small, large = rows['size', 'below 1 %'], rows['size', '20 % and more'] if (
        'size', '20 % and more') in rows else rows['size', '5 to 20 %']
    assert small.better == 2 and small.second == 1 and large.better is None
    # Holm: of k slices with an interval the smallest p-value is multiplied by k.
    tested = [row for row in comparison.rows[1:] if row.p is not None]
    least = min(tested, key=lambda row: row.difference.p)
    assert least.p == pytest.approx(len(tested) * least.difference.p)
    assert 'second is better than first by' in comparison.verdict()


def test_documents_and_masks_give_the_same(compared, systems, tmp_path):
    files = []
    for name in ('first', 'second'):
        files.append(tmp_path / f'{name}.json')
        document = evaluate_masks('mevis', systems / 'ann', systems / name).document()
        files[-1].write_text(json.dumps(document))
    found = compare_masks('mevis', systems / 'ann', tuple(files))
    assert found.comparison.document() == compared.comparison.document()
    turned = compare_masks('mevis', systems / 'ann', tuple(files[::-1])).comparison
    assert turned.rows[0].difference.mean == pytest.approx(-compared.comparison.rows[0]
                                                           .difference.mean)
    assert turned.verdict() == compared.comparison.verdict()
    with_masks = compare_masks('mevis', systems / 'ann', tuple(files),
                               masks=(systems / 'first', systems / 'second'))
    assert with_masks.report(2) == compared.report(2)
    page = found.report(1)
    assert 'The masks of first were not at hand.' in page
    assert page.count('<img') == 4 * 4, 'the truth of four examples'


def test_slices_of_one_system(systems):
    document = evaluate_masks('mevis', systems / 'ann', systems / 'first').document()
    found = slice_figures('mevis', systems / 'ann', document)
    rows = {(row['slice'], row['bin']): row for row in found['rows']}
    for name in ('J', 'F', 'J&F'):
        assert rows['all', 'all'][name] == pytest.approx(document['dataset'][name])
    assert rows['all', 'all']['expressions'] == document['dataset']['expressions']
    low, high = rows['size', 'below 1 %']['J&F-interval']
    assert low < rows['size', 'below 1 %']['J&F'] < high
    assert found['attributes']['v00_0']['look_alikes'] == 1
    json.dumps(found, allow_nan=False)


def test_what_cannot_be_compared(systems, tmp_path):
    ann, first = systems / 'ann', systems / 'first'
    document = evaluate_masks('mevis', ann, first).document()

    def file(name, **changes):
        (tmp_path / name).write_text(json.dumps(dict(document, **changes)))
        return tmp_path / name

    short = {key: row for key, row in document['per_expression'].items() if key != 'v07_1'}
    for pair, message in [
            ((first, tmp_path / 'none'), 'none: expected a folder with masks or a JSON file'),
            ((first, file('a.json', protocol='revos')), "of the protocol 'mevis', got 'revos'"),
            ((first, file('b.json', per_frame=[])), "figures under 'per_frame', got list"),
            ((first, file('c.json', per_expression={'v00_0': {}})), "expected 'J&F' of 'v00_0'"),
            *[((first, file('e.json', per_expression=dict(
                document['per_expression'], v00_0=dict(document['per_expression']['v00_0'], **{
                    name: value})))), "'per_expression': expected 'J&F' of 'v00_0'")
              for name, value in (('J&F', 'x'), ('J&F', float('nan')), ('J&F', 1.5), ('J&F', [0.5]),
                                  ('J&F', True), ('has_target', None), ('predicted', 'no'))],
            *[((first, file('f.json', per_frame=dict(
                document['per_frame'], v00_0={'J&F': value}))), "'per_frame': expected 'J&F' of")
              for value in (0.5, None, ['x'], [10**400])],
            ((first, file('d.json', per_expression=short)),
             "got 'v07_1' of first and not of d .1 in all"),
            ((first, first), 'expected two different names')]:
        with pytest.raises((OSError, ValueError), match=message):
            compare_masks('mevis', ann, pair)
    with pytest.raises(ValueError, match="expressions: expected one of .*, got 'davis-semi'"):
        compare_masks('davis-semi', ann, (first, first))


def test_few_videos_have_no_verdict(systems, tmp_path):
    meta = json.loads((systems / 'ann' / 'meta_expressions.json').read_text())
    meta['videos'] = dict(list(meta['videos'].items())[:19])
    for name in ('mask_dict.json', 'meta_expressions.json'):
        shutil.copy(systems / 'ann' / name, tmp_path)
    (tmp_path / 'meta_expressions.json').write_text(json.dumps(meta))
    found = compare_masks('mevis', tmp_path, (systems / 'first', systems / 'second'))
    assert 'at least 20 videos are needed' in found.comparison.verdict()
    assert 'too few videos' in found.comparison.table()
    assert all(row.p is None and row.better is None for row in found.comparison.rows)
    assert 'few videos' in found.report(1), 'frames are grey without images'


def test_examples(compared):
    kinds = dict(compared.examples(3))
    assert list(kinds) == ['Best for second: where it is furthest ahead',
                           'Best for first: where it is furthest ahead', 'Worst for both',
                           'Best for both']
    for items in kinds.values():
        assert 1 <= len(items) <= 3 and len({item['where'] for item in items}) == len(items)
    best = kinds['Best for second: where it is furthest ahead']
    gains = [item['scores'][1] - item['scores'][0] for item in best]
    assert gains == sorted(gains, reverse=True) and gains[-1] > 0.5
    assert [frame['name'] for frame in best[0]['frames']] == ['00000', '00001', '00002', '00003']
    assert best[0]['frames'][0]['masks'][2].sum() == 20


def test_page_in_a_browser(browser, systems, tmp_path):
    """One file: it asks for nothing else, runs nothing, shows all images, and fits a phone."""
    found = compare_masks('mevis', systems / 'ann', (systems / 'first', systems / 'second'),
                          names=(HOSTILE, 'B' * 60))
    path = tmp_path / 'report.html'
    path.write_text(found.report(), encoding='utf-8')
    assert path.stat().st_size < 5 << 20
    page = browser.new_page(viewport={'width': 1200, 'height': 900})
    requests, errors = [], []
    page.on('request', lambda request: requests.append(request.url))
    page.on('pageerror', lambda error: errors.append(str(error)))
    page.on('console', lambda message: errors.append(message.text))
    page.goto(path.as_uri())
    images = page.evaluate('Array.from(document.images, i => i.naturalWidth)')
    assert len(images) == 12 * 16 and min(images) == 240
    assert page.locator('h3', has_text=HOSTILE).count() == 1
    assert [url for url in requests if not url.startswith('data:')] == [path.as_uri()]
    assert errors == [] and page.evaluate('window.hacked') is None
    assert HOSTILE in page.inner_text('main')
    assert page.locator('script').count() == 0
    rows = page.locator('table.forest tbody tr:not(.group)')
    assert rows.count() == len(found.comparison.rows)
    # Every interval is drawn around its dot, within the picture.
    for place in range(rows.count()):
        dot = rows.nth(place).locator('circle').bounding_box()
        frame = rows.nth(place).locator('svg').bounding_box()
        assert frame['x'] <= dot['x'] and dot['x'] + dot['width'] <= frame['x'] + frame['width']
    assert page.locator('svg.scatter circle').count() == NUM_VIDEOS
    width = 'document.documentElement.scrollWidth <= window.innerWidth'
    assert page.evaluate(width)
    page.set_viewport_size({'width': 400, 'height': 800})
    assert page.evaluate(width), 'nothing but the table scrolls sideways'
    page.close()
