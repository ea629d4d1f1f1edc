"""Masks as RLE and PNG: their layouts, unions, and the exact bytes that servers want."""

import cv2
import numpy as np
import pytest
from PIL import Image

from glus_mm.utils.masks import encode_mask, merge_rles, write_mask_png

RNG = np.random.default_rng(0)


def test_masks(tmp_path):
    mask = RNG.random((7, 11)) < 0.4
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
    write_mask_png(path, mask)
    with Image.open(path) as image:
        assert image.mode == 'L'
        assert np.array_equal(np.asarray(image), mask * 255)
    assert cv2.imread(str(path), cv2.IMREAD_UNCHANGED).dtype == np.uint8
    with pytest.raises(OSError, match='missing'):
        write_mask_png(tmp_path / 'missing' / 'mask.png', mask)
