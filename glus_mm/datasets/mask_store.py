"""Masks in one JSON file, as MeViS and others have them."""

from os import PathLike
from typing import Any

import numpy as np

from glus_mm.datasets.mask_source import MaskSource
from glus_mm.utils.json_index import JSONIndex


class MaskStore(MaskSource):
    """Run-length masks of all annotations of a split, in ``mask_dict.json``.

    The file is checked once from front to back; kept are the places of the annotations in it.
    Masks are read from the file when they are asked for, and data-loading workers share the
    system's copy of it.

    Args:
        path: ``mask_dict.json``: ``{anno_id: [RLE or null, one per frame]}`` with
            RLE ``{'size': [H, W], 'counts': str}`` (COCO's compressed form).
        cache_size: number of annotations (each with all its frames) that are kept parsed.

    Raises:
        FileNotFoundError: the file cannot be opened.
        ValueError: it has not this layout; the message names the annotation and the frame.
    """

    def __init__(self, path: str | PathLike, cache_size: int = 16) -> None:
        super().__init__(str(path))
        self._tracks = JSONIndex(path, self._check_track, cache_size)

    def _check_track(self, anno_id: str, track: Any) -> int:
        """Check one annotation and return its number of frames."""
        where = f'{self.path}: anno {anno_id!r}'
        if not isinstance(track, list):
            raise ValueError(f'{where}: expected a list with one RLE or null per frame, got '
                             f'{type(track).__name__}')
        for frame_idx, rle in enumerate(track):
            if rle is not None:
                check_rle(rle, where, frame_idx)
        return len(track)

    def __contains__(self, anno_id: object) -> bool:
        return anno_id in self._tracks

    def __len__(self) -> int:
        """Number of annotations."""
        return len(self._tracks)

    def num_frames(self, anno_id: str) -> int:
        """Number of frames for which ``anno_id`` has a mask or null."""
        return self._tracks.note(anno_id)

    def rles(self, expression: dict, frame_idx: int, size: tuple[int, int]) -> list[dict]:
        """Masks of one expression's objects on one frame; see :class:`MaskSource`."""
        found = []
        for anno_id in expression['anno_ids']:
            where = self.where(expression, anno_id, frame_idx)
            length = self.num_frames(anno_id) if anno_id in self else 0
            if not 0 <= frame_idx < length:
                raise ValueError(f'{where}: expected a mask or null, but anno {anno_id!r} has '
                                 f'{length} frames')
            rle = self._tracks[anno_id][frame_idx]
            if rle is None:
                continue
            check_size(rle, size, where)
            found.append({'size': list(rle['size']), 'counts': rle['counts']})
        return found

    def size(self, expression: dict) -> tuple[int, int] | None:
        """Size of the first mask of an expression's objects; see :class:`MaskSource`."""
        tracks = (self._tracks[anno_id] for anno_id in expression['anno_ids'] if anno_id in self)
        return next((tuple(rle['size']) for track in tracks for rle in track if rle), None)


def check_rle(rle: Any, where: str, frame_idx: int) -> None:
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
