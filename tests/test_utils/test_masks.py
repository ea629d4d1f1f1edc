"""Masks as RLE and PNG: round trips, unions, and the exact bytes that servers want."""

import json

import cv2
import numpy as np
import pytest
from PIL import Image

from glus_mm.utils.masks import decode_rle, encode_mask, merge_rles, write_mask_png

RNG = np.random.default_rng(0)
MASKS = {
    'random': RNG.random((7, 11)) < 0.4,
    'empty': np.zeros((5, 3), bool),
    'full': np.ones((5, 3), bool),
    'one pixel': np.eye(1, dtype=bool),
    'a column': np.pad(np.ones((6, 1), bool), ((0, 0), (2, 5))),
}


@pytest.mark.parametrize('name', MASKS)
def test_round_trip(name):
    mask = MASKS[name]
    rle = encode_mask(mask)
    assert rle['size'] == list(mask.shape) and isinstance(rle['counts'], str)
    assert json.loads(json.dumps(rle)) == rle
    decoded = decode_rle(rle)
    assert decoded.dtype == bool and np.array_equal(decoded, mask)
    as_bytes = dict(rle, counts=rle['counts'].encode())
    assert np.array_equal(decode_rle(as_bytes), mask)


def test_masks(tmp_path):
    mask = MASKS['random']
    for other in (mask.astype(np.uint8) * 255, np.asfortranarray(mask), mask[::-1][::-1]):
        assert encode_mask(other) == encode_mask(mask)
    with pytest.raises(ValueError, match=r'expected a mask \(H, W\), got shape \(1, 4, 4\)'):
        encode_mask(np.zeros((1, 4, 4), bool))
    masks = [RNG.random((9, 6)) < 0.3 for _ in range(3)]
    rles = [encode_mask(mask) for mask in masks]
    rles[1] = dict(rles[1], counts=rles[1]['counts'].encode())
    merged = merge_rles(rles, (9, 6))
    assert merged == encode_mask(masks[0] | masks[1] | masks[2])
    assert merge_rles(rles[1:2], (9, 6)) == encode_mask(masks[1])
    assert merge_rles([], (9, 6)) == encode_mask(np.zeros((9, 6), bool))
    path = tmp_path / 'mask.png'
    write_mask_png(path, MASKS['random'])
    with Image.open(path) as image:
        assert image.mode == 'L'
        assert np.array_equal(np.asarray(image), MASKS['random'] * 255)
    assert cv2.imread(str(path), cv2.IMREAD_UNCHANGED).dtype == np.uint8
    with pytest.raises(OSError, match='missing'):
        write_mask_png(tmp_path / 'missing' / 'mask.png', MASKS['full'])
