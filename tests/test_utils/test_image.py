"""Images for both encoders, and errors of broken files.

``dev/check_official.py`` compares them with the official preprocessing.
"""

import os
import struct
import zlib

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from glus_mm.utils.image import read_image, sam2_image, vision_tower_image


def pattern(height, width):
    y, x, c = np.ogrid[:height, :width, :3]
    blocks = (x // 16) ^ (y // 16)
    return ((3 * x + 5 * y + 85 * c + 9 * blocks) % 256).astype(np.uint8)


def test_sizes():
    image = np.zeros((32, 96, 3), np.uint8)
    image[:, :32, 0] = 255  # a red left third
    cut, whole = vision_tower_image(image, 32), vision_tower_image(image, 32, 'squash')
    assert cut.shape == whole.shape == (32, 32, 3) and cut.dtype == whole.dtype == np.uint8
    assert cut[..., 0].max() == 0
    assert whole[:, :8, 0].min() > 200 and whole[:, 16:, 0].max() == 0
    assert np.array_equal(vision_tower_image(image.transpose(1, 0, 2), 32), cut.transpose(1, 0, 2))
    image = pattern(64, 64)
    assert np.array_equal(vision_tower_image(image, 64), image)
    assert np.array_equal(vision_tower_image(image, 64, 'squash'), image)
    expected = torch.from_numpy(image).permute(2, 0, 1) / 255
    assert torch.equal(sam2_image(image, 64), expected)
    image = np.zeros((20, 30, 3), np.uint8)
    image[..., 1] = 255
    out = sam2_image(image, 64)
    assert out.shape == (3, 64, 64) and out.dtype == torch.float32
    assert out[1].min() == 1 and out[[0, 2]].max() == 0
    assert torch.equal(sam2_image(image[:, ::-1], 64), out), 'an array with negative strides'
    with pytest.raises(ValueError, match="crop must be one of .*'center', 'squash'.* got 'top'"):
        vision_tower_image(pattern(8, 8), 4, 'top')


@pytest.mark.parametrize('suffix', ['.png', '.jpg'])
def test_read_image_is_rgb_whatever_the_suffix(tmp_path, suffix):
    image = np.zeros((6, 8, 3), np.uint8)
    image[..., 0] = 250
    _, data = cv2.imencode('.png', image[..., ::-1])
    path = tmp_path / f'image{suffix}'
    data.tofile(path)
    assert np.array_equal(read_image(path), image)


def test_read_image(tmp_path):
    path = tmp_path / 'grey.png'
    cv2.imwrite(str(path), np.full((5, 7), 99, np.uint8))
    assert read_image(path).shape == (5, 7, 3)
    with pytest.raises(FileNotFoundError, match='no.jpg'):
        read_image(tmp_path / 'no.jpg')
    with pytest.raises(FileNotFoundError, match=tmp_path.name):
        read_image(tmp_path)
    for name, content in (('empty.jpg', b''), ('text.jpg', b'no image at all')):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=rf'{name} \({len(content)} bytes\)'):
            read_image(tmp_path / name)


def png_of(width, height):
    """A PNG file that declares a size and has hardly any data."""
    def chunk(kind, data):
        return struct.pack('>I', len(data)) + kind + data + struct.pack(
            '>I', zlib.crc32(kind + data))

    header = struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0)
    return (b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header)
            + chunk(b'IDAT', zlib.compress(bytes(100))) + chunk(b'IEND', b''))


def test_read_image_is_bounded(tmp_path, monkeypatch):
    """What a header states is not allocated, and a pipe is not waited for."""
    (tmp_path / 'huge.png').write_bytes(png_of(20_000, 20_000))
    _, data = cv2.imencode('.jpg', np.zeros((8, 8, 3), np.uint8))
    data = data.tobytes()
    place = data.index(b'\xff\xc0') + 5
    (tmp_path / 'huge.jpg').write_bytes(
        data[:place] + struct.pack('>HH', 65_500, 65_500) + data[place + 4:])
    os.mkfifo(tmp_path / 'pipe.jpg')
    for name, message in (('huge.png', 'of a usual size'), ('huge.jpg', 'of a usual size'),
                          ('pipe.jpg', 'regular file')):
        with pytest.raises(ValueError, match=f'expected .*{message}.*{name}'):
            read_image(tmp_path / name)
    # Programs switch Pillow's own limit off.
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', None)
    (tmp_path / 'huge.png').write_bytes(png_of(20_000, 20_000))
    with pytest.raises(ValueError, match='at most 178956970 pixels, got 20000 x 20000: .*huge.png'):
        read_image(tmp_path / 'huge.png')
