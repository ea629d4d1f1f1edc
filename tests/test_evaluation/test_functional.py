"""J and F: official values, edge cases, and a plain implementation on random masks."""

import json
import math

import cv2
import numpy as np
import pytest

from glus_mm.evaluation.functional import boundary_accuracy, region_similarity
from glus_mm.utils.masks import decode_rle, merge_rles


def plain_boundary(mask):
    """The definition, pixel by pixel; a neighbour beyond the frame repeats the last pixel."""
    h, w = mask.shape
    boundary = np.zeros((h, w), bool)
    for y in range(h):
        for x in range(w):
            south, east = min(y + 1, h - 1), min(x + 1, w - 1)
            around = {mask[y, x], mask[y, east], mask[south, x], mask[south, east]}
            boundary[y, x] = len(around) > 1
    return boundary


def plain_measures(gt, pred, radius=None):
    """J and F by their definitions, with distances between all pairs of boundary pixels."""
    gt, pred = gt != 0, pred != 0
    if radius is None:
        radius = math.ceil(0.008 * math.hypot(*gt.shape))
    union = (gt | pred).sum()
    region = (gt & pred).sum() / union if union else 1.0
    a, b = np.argwhere(plain_boundary(gt)), np.argwhere(plain_boundary(pred))
    if not len(a) or not len(b):
        return float(region), float(len(a) == len(b))
    near = ((a[:, None] - b[None])**2).sum(-1) <= radius**2
    recall, precision = near.any(1).sum() / len(a), near.any(0).sum() / len(b)
    if precision + recall == 0:
        return float(region), 0.0
    return float(region), float(2 * precision * recall / (precision + recall))


def measures(gt, pred):
    return region_similarity(gt, pred), boundary_accuracy(gt, pred)


def random_mask(rng, shape):
    """Blobs, specks, rectangles up to the border, or nothing."""
    kind = rng.integers(5)
    if kind == 0:
        return rng.random(shape) < rng.random()
    if kind == 1:
        return rng.random(shape) < 3 / (shape[0] * shape[1])
    mask = np.zeros(shape, bool)
    for _ in range(kind - 1):
        y, x = (np.sort(rng.integers(0, side + 1, 2)) for side in shape)
        mask[y[0]:y[1], x[0]:x[1]] = True
    return mask


def samples_of(root):
    """Yield (key, frame, true mask, predicted mask) of the MeViS part of the fixture."""
    folder = root / 'mevis' / 'valid_u'
    videos = json.loads((folder / 'meta_expressions.json').read_text())['videos']
    annotations = json.loads((folder / 'mask_dict.json').read_text())
    for video_id, video in videos.items():
        for exp_id, expression in video['expressions'].items():
            for t, frame in enumerate(video['frames']):
                pred = cv2.imread(str(root / 'pred' / video_id / exp_id / f'{frame}.png'),
                                  cv2.IMREAD_UNCHANGED)
                rles = [annotations[str(anno)][t] for anno in expression['anno_id']]
                gt = decode_rle(merge_rles([rle for rle in rles if rle], pred.shape))
                yield f'{video_id}_{exp_id}', t, gt, pred


def test_equals_official(evaluators):
    per_frame = json.loads((evaluators / 'expected.json').read_text())['mevis']['per_frame']
    count = 0
    for key, t, gt, pred in samples_of(evaluators):
        expected = per_frame[key]['J'][t], per_frame[key]['F'][t]
        assert measures(gt, pred) == expected, (key, t)
        # Masks stored row by row take another path than those that come from RLE.
        assert measures(np.ascontiguousarray(gt), np.asfortranarray(pred)) == expected, (key, t)
        count += 1
    assert count == sum(len(values['J']) for values in per_frame.values())


@pytest.mark.parametrize('shape', [(1, 1), (1, 7), (9, 1), (2, 2), (5, 3), (17, 64), (23, 65),
                                   (64, 31), (3, 130)])
def test_equals_plain_implementation(shape):
    rng = np.random.default_rng(shape)
    for _ in range(30):
        gt, pred = random_mask(rng, shape), random_mask(rng, shape)
        assert measures(gt, pred) == plain_measures(gt, pred)


@pytest.mark.parametrize('radius', [1, 2, 3, 5, 8, 18, 70, 200])
def test_tolerance_in_pixels_equals_plain_implementation(radius):
    rng = np.random.default_rng(radius)
    for _ in range(10):
        shape = tuple(rng.integers(1, 90, 2))
        gt, pred = random_mask(rng, shape), random_mask(rng, shape)
        assert boundary_accuracy(gt, pred, radius) == plain_measures(gt, pred, radius)[1]


def test_counting_without_numpy_2(monkeypatch):
    rng = np.random.default_rng(0)
    pairs = [(random_mask(rng, (23, 65)), random_mask(rng, (23, 65))) for _ in range(20)]
    expected = [measures(*pair) for pair in pairs]
    monkeypatch.delattr(np, 'bitwise_count', raising=False)
    assert [measures(*pair) for pair in pairs] == expected


@pytest.mark.parametrize('shape,radius', [((600, 800), 8), ((480, 854), 8), ((1080, 1920), 18),
                                          ((601, 800), 9), ((96, 128), 2)])
def test_tolerance_follows_the_diagonal(shape, radius):
    """A pixel exactly at the tolerance still matches, the next one does not."""
    gt, near, far = (np.zeros(shape, bool) for _ in range(3))
    gt[:, 40], near[:, 40 + radius], far[:, 42 + radius] = True, True, True
    assert boundary_accuracy(gt, near) == 1.0
    assert boundary_accuracy(gt, far) < 1.0


@pytest.mark.parametrize('shape', [(7, 9), (1, 9), (9, 1), (1, 1)])
def test_empty_and_full(shape):
    empty, full = np.zeros(shape, bool), np.ones(shape, bool)
    assert measures(empty, empty) == (1.0, 1.0)
    assert measures(full, full) == (1.0, 1.0)
    # A mask that fills the frame has no boundary, no more than an empty one.
    assert measures(full, empty) == (0.0, 1.0)
    assert measures(empty, full) == (0.0, 1.0)


@pytest.mark.parametrize('other', ['empty', 'full'])
def test_only_one_has_a_boundary(other):
    mask = np.zeros((20, 30), bool)
    mask[5:9, 5:9] = True
    blank = np.full((20, 30), other == 'full')
    assert boundary_accuracy(mask, blank) == 0.0
    assert boundary_accuracy(blank, mask) == 0.0


def test_foreground_and_views():
    rng = np.random.default_rng(0)
    gt, pred = rng.random((2, 31, 45)) < 0.5
    grey_gt, grey_pred = gt * np.uint8(128), pred * np.uint8(1)
    assert measures(grey_gt, grey_pred) == measures(gt, pred)
    assert measures(grey_gt, pred) == measures(gt, pred)
    rng = np.random.default_rng(1)
    gt, pred = rng.random((2, 30, 40)) < 0.5
    kept = gt.copy(), pred.copy()
    expected = measures(gt[::2, 3:-3].copy(), pred[::2, 3:-3].copy())
    assert measures(gt[::2, 3:-3], pred[::2, 3:-3]) == expected
    np.testing.assert_array_equal((gt, pred), kept)


@pytest.mark.parametrize('function', [region_similarity, boundary_accuracy])
@pytest.mark.parametrize('gt,pred,error,message', [
    (np.zeros((2, 3), bool), np.zeros((3, 2), bool), ValueError, r'\(2, 3\).*\(3, 2\)'),
    (np.zeros((2, 3, 1), bool), np.zeros((2, 3, 1), bool), ValueError, r'gt.*\(2, 3, 1\)'),
    (np.zeros((2, 3), bool), np.zeros(6, bool), ValueError, r'pred.*\(6,\)'),
    (np.zeros((0, 3), bool), np.zeros((0, 3), bool), ValueError, r'\(0, 3\)'),
    (np.zeros((2, 3)), np.zeros((2, 3), bool), TypeError, 'gt.*float64'),
    (np.zeros((2, 3), bool), np.zeros((2, 3), np.int64), TypeError, 'pred.*int64'),
    (np.zeros((2, 3), bool), [[0, 1, 0], [0, 0, 0]], TypeError, 'pred.*list'),
])
def test_bad_masks(function, gt, pred, error, message):
    with pytest.raises(error, match=message):
        function(gt, pred)


@pytest.mark.parametrize('bound_th', [0, -1, 1.5, float('nan')])
def test_bad_tolerance(bound_th):
    mask = np.ones((4, 4), bool)
    with pytest.raises(ValueError, match='bound_th'):
        boundary_accuracy(mask, mask, bound_th)
