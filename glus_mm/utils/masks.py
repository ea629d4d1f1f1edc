"""Masks as COCO RLE and as PNG files."""

import struct
from collections.abc import Sequence
from io import BytesIO
from os import PathLike
from typing import Any

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError
from pycocotools import mask as coco_mask

# What Pillow raises for files that are damaged in one place or another.
DAMAGED = (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError)
_SIGNATURE = b'\x89PNG\r\n\x1a\n'


def encode_mask(mask: np.ndarray) -> dict:
    """Encode a binary mask.

    Args:
        mask: bool or uint8 (H, W); any nonzero pixel is foreground.

    Returns:
        COCO RLE, ``{'size': [H, W], 'counts': str}``, ready for JSON.

    Raises:
        ValueError: ``mask`` has another number of axes.
    """
    if mask.ndim != 2:
        raise ValueError(f'expected a mask (H, W), got shape {mask.shape}')
    rle = coco_mask.encode(np.asfortranarray(mask != 0).view(np.uint8))
    return {'size': list(rle['size']), 'counts': rle['counts'].decode('ascii')}


def decode_rle(rle: dict) -> np.ndarray:
    """Decode a COCO RLE to a bool mask (H, W)."""
    return coco_mask.decode(rle).astype(bool)


def merge_rles(rles: Sequence[dict], size: tuple[int, int]) -> dict:
    """Unite masks without decoding them.

    Args:
        rles: COCO RLEs, all of ``size``; may be empty.
        size: ``(H, W)``, the size of the result.

    Returns:
        COCO RLE of the union; an empty mask where ``rles`` is empty.
    """
    if not rles:
        return encode_mask(np.zeros(size, dtype=bool))
    merged = rles[0]
    if len(rles) > 1:
        merged = coco_mask.merge([dict(rle, counts=rle['counts'].encode('ascii') if isinstance(
            rle['counts'], str) else rle['counts']) for rle in rles])
    counts = merged['counts']
    counts = counts.decode('ascii') if isinstance(counts, bytes) else counts
    return {'size': list(merged['size']), 'counts': counts}


def check_rle(rle: Any, where: str, frame_idx: int | str) -> None:
    """Check the form of a COCO RLE from a JSON file; its runs are not looked at.

    Args:
        rle: what should be an RLE.
        where: what to name in an error, without the frame.
        frame_idx: its frame.

    Raises:
        ValueError: it is none.
    """
    if isinstance(rle, dict) and 'size' in rle and 'counts' in rle:
        size, counts = rle['size'], rle['counts']
        if not (isinstance(size, list) and len(size) == 2 and type(size[0]) is int
                and type(size[1]) is int and 0 < size[0] and 0 < size[1]):
            got = f'size {str(size)[:80]}'
        elif not (isinstance(counts, str) and counts and counts.isascii()):
            got = f'counts {str(counts)[:80]}'
        else:
            return
    else:
        got = str(rle)[:80]
    raise ValueError(f"{where}, frame {frame_idx}: expected null or an RLE {{'size': [H, W], "
                     f"'counts': str}}, got {got}")


def compress_runs(rle: dict, where: str, frame: int | str) -> dict:
    """Compress a COCO RLE whose run lengths are a list.

    Args:
        rle: with a list as ``counts``.
        where: what to name in an error, without the frame.
        frame: its frame.

    Returns:
        The compressed RLE, ready for JSON.

    Raises:
        ValueError: it has no size, or its runs do not cover that.
    """
    check_rle(dict(rle, counts='0'), where, frame)
    (height, width), runs = rle['size'], rle['counts']
    # Of 32 bits in the code of COCO.
    if not all(type(run) is int and 0 <= run < 1 << 32 for run in runs) \
            or sum(runs) != height * width:
        raise ValueError(f'{where}, frame {frame!r}: expected run lengths that cover {height} x '
                         f'{width} pixels, got {str(runs)[:80]}')
    packed = coco_mask.frPyObjects(rle, height, width)
    return {'size': [height, width], 'counts': packed['counts'].decode('ascii')}


def check_size(rle: dict, size: tuple[int, int], where: str) -> None:
    """Check that a COCO RLE fits its frame, and that its runs fill it.

    Args:
        rle: an RLE whose form was checked.
        size: ``(H, W)`` of the frame.
        where: what to name in an error.

    Raises:
        ValueError: it has another size, or its runs are corrupt.
    """
    height, width = rle['size']
    if (height, width) != tuple(size):
        raise ValueError(f'{where}: expected an RLE of the size of the frame, (H, W) = '
                         f'{tuple(size)}, got {(height, width)}')
    counts = np.frombuffer(rle['counts'].encode('ascii'), dtype=np.uint8)
    if not _covers(counts, height * width):
        raise ValueError(f'{where}: expected an RLE whose runs cover {height} x {width} '
                         f'pixels, got counts that do not')


def _covers(counts: np.ndarray, num_pixels: int) -> bool:
    """Tell whether the runs of a compressed COCO RLE add up to ``num_pixels``.

    pycocotools (2.0.11) does not check this: a truncated or foreign string makes it write beyond
    the mask, or never return.

    The code: 6 bits a character, from chr(48) on; 5 of them are data, least significant group
    first, and the sixth says that the number goes on; the last group carries the sign. From the
    fourth run on, a number is the difference to the run before the last one.

    Args:
        counts: uint8 (n,), the characters.
        num_pixels: H * W.

    Returns:
        False for anything that is no such code, too.
    """
    codes = counts.astype(np.int64) - 48
    ends = np.flatnonzero(codes < 32)
    if codes.min() < 0 or codes.max() > 63 or not len(ends) or ends[-1] != len(codes) - 1:
        return False
    starts = np.concatenate(([0], ends[:-1] + 1))
    lengths = ends - starts + 1
    if lengths.max() > 7:
        return False
    places = 5 * (np.arange(len(codes)) - np.repeat(starts, lengths))
    numbers = np.add.reduceat((codes & 31) << places, starts)
    numbers -= np.where(codes[ends] & 16, 1, 0) << 5 * lengths
    runs = np.concatenate((numbers[:1], np.cumsum(numbers[1::2]), np.cumsum(numbers[2::2])))
    return bool(runs.min() >= 0 and runs.sum() == num_pixels)


def write_mask_png(path: str | PathLike, mask: np.ndarray) -> None:
    """Write a mask as the field's servers want it: a PNG of mode L with values 0 and 255.

    Args:
        path: the file to write; its folder exists.
        mask: bool (H, W).

    Raises:
        OSError: the file cannot be written.
    """
    ok, data = cv2.imencode('.png', mask.astype(np.uint8) * 255)
    if not ok:
        raise OSError(f'cannot encode a mask of shape {mask.shape} for {path}')
    with open(path, 'wb') as file:
        file.write(data.tobytes())


def decode_png(data: bytes) -> Image.Image:
    """Decode a PNG file; one of :data:`DAMAGED` is raised for one that is damaged."""
    stream = BytesIO(data)
    # Decoding alone does not look at the checksums: a flipped bit could go unseen.
    Image.open(stream, formats=['PNG']).verify()
    image = Image.open(stream, formats=['PNG'])
    image.load()
    return image


def read_mask_png(path: str | PathLike, where: str, modes: Sequence[str] = ('L', ),
                  size: tuple[int, int] | None = None) -> np.ndarray:
    """Read the values of a PNG file with one channel of 8 bits.

    Args:
        path: the file.
        where: what an error names beside the file, such as video, expression and frame.
        modes: the modes (as Pillow names them) that are accepted: ``'L'`` grey, ``'P'`` palette.
        size: ``(H, W)`` that it must have; any if None.

    Returns:
        uint8 (H, W): grey values, or indices into the palette.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no PNG file, is damaged, or has another mode or size.
        OSError: it cannot be read.
    """
    try:
        with open(path, 'rb') as file:
            data = file.read()
    except FileNotFoundError:
        raise FileNotFoundError(f'{path}: expected a PNG file with the mask of {where}, got '
                                'nothing there') from None
    except OSError as error:
        raise type(error)(f'{path}: expected a PNG file with the mask of {where}, but it cannot '
                          f'be read: {error.strerror or error}') from error
    return decode_mask_png(data, path, where, modes, size)


def decode_mask_png(data: bytes, path: str | PathLike, where: str, modes: Sequence[str] = ('L', ),
                    size: tuple[int, int] | None = None) -> np.ndarray:
    """Decode the content of a PNG file with one channel of 8 bits.

    Args:
        data: the content.
        path, where: where it comes from, for errors.
        modes, size: see :func:`read_mask_png`.

    Returns:
        uint8 (H, W): grey values, or indices into the palette.

    Raises:
        ValueError: it is no PNG file, is damaged, or has another mode or size.
    """
    try:
        image = decode_png(data)
    except DAMAGED as error:
        if not data.startswith(_SIGNATURE):
            got = f'{len(data)} bytes of something else' if data else 'an empty file'
        elif isinstance(error, UnidentifiedImageError):
            got = 'one whose head is damaged'
        else:
            got = f'one that cannot be decoded: {error}'
        raise ValueError(f'{path}: expected a PNG file with the mask of {where}, got {got}') \
            from error
    if image.mode not in modes:
        raise ValueError(f'{path}: expected a PNG file of mode {" or ".join(modes)} for {where}, '
                         f'got mode {image.mode}')
    found = image.size[::-1]
    if size is not None and found != tuple(size):
        raise ValueError(f'{path}: expected a mask of size (H, W) = {tuple(size)} for {where}, got '
                         f'{found}')
    return np.asarray(image)


def write_label_png(path: str | PathLike, labels: np.ndarray) -> None:
    """Write a label map as DAVIS has them: a palette PNG, index = number of the object.

    Args:
        path: the file to write; its folder exists.
        labels: uint8 (H, W).

    Raises:
        OSError: the file cannot be written.
    """
    image = Image.fromarray(labels)
    image.putpalette(_PALETTE)
    image.save(path, format='PNG')


# The colours of PASCAL VOC and DAVIS: the bits of an index, spread over R, G and B.
_PALETTE = [sum((index >> 3 * place + channel & 1) << 7 - place for place in range(8))
            for index in range(256) for channel in range(3)]
