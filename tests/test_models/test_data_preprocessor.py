"""Normalisation, alike in training and testing."""

import numpy as np
import pytest
import torch

from glus_mm.models import RefVOSDataPreprocessor
from glus_mm.structures import RefVOSDataSample


def test_images():
    preprocessor = RefVOSDataPreprocessor(
        vision_mean=(0.5, 0, 0), vision_std=(0.5, 1, 2), sam_mean=(0.1, 0, 0), sam_std=(1, 1, 4))
    vision = torch.full((2, 3, 4, 4), 255, dtype=torch.uint8)
    sam = torch.full((1, 3, 8, 8), 0.5)
    data = dict(inputs=dict(clip_imgs=[vision], sam_imgs=[sam], input_ids=[np.arange(3)]),
                data_samples=[RefVOSDataSample(gt_masks=torch.ones(1, 1, 2, 2).byte())])
    out = preprocessor(data, training=True)
    assert torch.equal(out['inputs']['clip_imgs'][0][1, :, 0, 0], torch.tensor([1., 1., 0.5]))
    torch.testing.assert_close(out['inputs']['sam_imgs'][0][0, :, 3, 3],
                               torch.tensor([0.4, 0.5, 0.125]))
    assert out['inputs']['input_ids'] == data['inputs']['input_ids']
    assert data['inputs']['clip_imgs'][0] is vision, 'the batch itself stays as it was'
    again = preprocessor(data, training=False)
    assert torch.equal(again['inputs']['sam_imgs'][0], out['inputs']['sam_imgs'][0])
    preprocessor = RefVOSDataPreprocessor(sam_mean=[0, 0, 0], sam_std=[1, 1, 1])
    assert torch.equal(preprocessor.normalize_sam(torch.full((3, 2, 2), 0.25)),
                       torch.full((3, 2, 2), 0.25))
    with pytest.raises(ValueError, match=r'sam_std needs a value for each of R, G, B.*\(1, 2\)'):
        RefVOSDataPreprocessor(sam_std=(1, 2))


def test_the_rest():
    preprocessor = RefVOSDataPreprocessor().double()
    image = torch.arange(12).byte().view(3, 2, 2)
    assert preprocessor.normalize_vision(image).dtype == torch.float64
    assert preprocessor.normalize_sam(image / 255).dtype == torch.float64
    assert not preprocessor.state_dict()
    reader = object()
    out = RefVOSDataPreprocessor()(dict(inputs=dict(reader=[reader]), data_samples=[]))
    assert out['inputs']['reader'][0] is reader
