"""Reading masks from PNG files, with every check on the way."""

import struct
from collections.abc import Sequence
from io import BytesIO
from os import PathLike

import numpy as np
from PIL import Image, UnidentifiedImageError

_SIGNATURE = b'\x89PNG\r\n\x1a\n'


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
    stream = BytesIO(data)
    try:
        # Decoding alone does not look at the checksums: a flipped bit could go unseen.
        Image.open(stream, formats=['PNG']).verify()
        image = Image.open(stream, formats=['PNG'])
        found = image.size[::-1]
        if image.mode in modes and (size is None or found == tuple(size)):
            return np.asarray(image)
    # What Pillow raises for files that are damaged in one place or another.
    except (OSError, SyntaxError, ValueError, EOFError, struct.error,
            Image.DecompressionBombError) as error:
        raise ValueError(_broken(data, path, where, error)) from error
    if image.mode not in modes:
        raise ValueError(f'{path}: expected a PNG file of mode {" or ".join(modes)} for {where}, '
                         f'got mode {image.mode}')
    raise ValueError(f'{path}: expected a mask of size (H, W) = {tuple(size)} for {where}, got '
                     f'{found}')


def _broken(data: bytes, path: str | PathLike, where: str, error: Exception) -> str:
    """Say what is wrong with a file that cannot be decoded."""
    if not data.startswith(_SIGNATURE):
        got = f'{len(data)} bytes of something else' if data else 'an empty file'
    elif isinstance(error, UnidentifiedImageError):
        got = 'one whose head is damaged'
    else:
        got = f'one that cannot be decoded: {error}'
    return f'{path}: expected a PNG file with the mask of {where}, got {got}'


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


def _davis_palette() -> list[int]:
    """The colours of PASCAL VOC and DAVIS: the bits of an index, spread over R, G and B."""
    palette = []
    for index in range(256):
        colour = [0, 0, 0]
        for place in range(8):
            for channel in range(3):
                colour[channel] |= (index >> (3 * place + channel) & 1) << (7 - place)
        palette += colour
    return palette


_PALETTE = _davis_palette()
