"""The masks of a data set in MeViS layout: one JSON file, read once."""

import json
from os import PathLike
from typing import Any

import numpy as np


def read_json_object(path: str | PathLike) -> dict:
    """Read a JSON file that holds one object, and refuse keys that occur twice.

    Args:
        path: the file.

    Returns:
        The object. Python's own parser would silently keep the last of two equal keys.

    Raises:
        FileNotFoundError: the file cannot be opened.
        ValueError: it is no JSON, holds something else than an object, or repeats a key.
    """
    try:
        with open(path, encoding='utf-8') as file:
            content = json.load(file, object_pairs_hook=_unique_pairs)
    except OSError as error:
        raise FileNotFoundError(f'expected a JSON file, but cannot read {path}: {error}') from error
    except ValueError as error:
        raise ValueError(f'{path}: expected a JSON file, got one that fails with: {error}') \
            from error
    if not isinstance(content, dict):
        raise ValueError(f'{path}: expected a JSON object, got {type(content).__name__}')
    return content


def _unique_pairs(pairs: list[tuple[str, Any]]) -> dict:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        double = next(key for key, _ in pairs if key in seen or seen.add(key))
        raise ValueError(f'the key {double!r} occurs twice in one object')
    return result


class MaskStore:
    """Run-length masks of all annotations of a split.

    The run lengths lie in one byte buffer, so that data-loading workers share it with their
    parent; dicts of small objects would be copied into each of them.

    Args:
        path: ``mask_dict.json``: ``{anno_id: [RLE or null, one per frame]}`` with
            RLE ``{'size': [H, W], 'counts': str}`` (COCO's compressed form).

    Raises:
        FileNotFoundError: the file cannot be opened.
        ValueError: it has not this layout; the message names the annotation and the frame.
    """

    def __init__(self, path: str | PathLike) -> None:
        self.path = str(path)
        self._rows: dict[str, tuple[int, int]] = {}
        counts: list[bytes] = []
        sizes: list[tuple[int, int]] = []
        for anno_id, track in read_json_object(path).items():
            if not isinstance(track, list):
                raise ValueError(f'{path}: anno {anno_id!r}: expected a list with one RLE or null '
                                 f'per frame, got {type(track).__name__}')
            self._rows[anno_id] = (len(sizes), len(track))
            for frame_idx, rle in enumerate(track):
                size, count = ((0, 0), b'') if rle is None else self._parse(
                    rle, f'{path}: anno {anno_id!r}, frame {frame_idx}')
                sizes.append(size)
                counts.append(count)
        self._sizes = np.array(sizes, dtype=np.int32).reshape(-1, 2)
        self._ends = np.cumsum([0, *map(len, counts)], dtype=np.int64)
        self._counts = np.frombuffer(b''.join(counts), dtype=np.uint8)

    @staticmethod
    def _parse(rle: Any, where: str) -> tuple[tuple[int, int], bytes]:
        expected = "expected null or an RLE {'size': [H, W], 'counts': str}"
        if not isinstance(rle, dict) or not {'size', 'counts'} <= rle.keys():
            raise ValueError(f'{where}: {expected}, got {str(rle)[:80]}')
        size, counts = rle['size'], rle['counts']
        if not (isinstance(size, list) and len(size) == 2
                and all(type(side) is int and side > 0 for side in size)):
            raise ValueError(f'{where}: {expected}, got size {str(size)[:80]}')
        if not (isinstance(counts, str) and counts.isascii() and counts):
            raise ValueError(f'{where}: {expected}, got counts {str(counts)[:80]}')
        return (size[0], size[1]), counts.encode('ascii')

    def __contains__(self, anno_id: object) -> bool:
        return anno_id in self._rows

    def __len__(self) -> int:
        """Number of annotations."""
        return len(self._rows)

    def __deepcopy__(self, memo: dict) -> 'MaskStore':
        """Return the store itself: it never changes, and subsets of a data set share it."""
        return self

    def num_frames(self, anno_id: str) -> int:
        """Number of frames for which ``anno_id`` has a mask or null."""
        return self._rows[anno_id][1]

    def rles(self, expression: dict, frame_idx: int, size: tuple[int, int]) -> list[dict]:
        """Masks of one expression's objects on one frame.

        Args:
            expression: an entry of ``expressions`` as ``load_data_list`` makes it.
            frame_idx: 0-based position in the video.
            size: ``(H, W)`` that the masks must have: the size of the frame.

        Returns:
            COCO RLEs of the objects that are visible there; empty where none is.

        Raises:
            ValueError: a mask has another size or is corrupt, or there is none for that
                annotation or frame.
        """
        found = []
        for anno_id in expression['anno_ids']:
            where = self.where(expression, anno_id, frame_idx)
            start, length = self._rows.get(anno_id, (0, 0))
            if not 0 <= frame_idx < length:
                raise ValueError(f'{where}: expected a mask or null, but anno {anno_id!r} has '
                                 f'{length} frames')
            row = start + frame_idx
            height, width = self._sizes[row].tolist()
            if height == 0:
                continue
            if (height, width) != tuple(size):
                raise ValueError(f'{where}: expected an RLE of the size of the frame, (H, W) = '
                                 f'{tuple(size)}, got {(height, width)}')
            counts = self._counts[self._ends[row]:self._ends[row + 1]]
            if not _covers(counts, height * width):
                raise ValueError(f'{where}: expected an RLE whose runs cover {height} x {width} '
                                 f'pixels, got counts that do not')
            text = counts.tobytes().decode('ascii')
            found.append({'size': [height, width], 'counts': text})
        return found

    def where(self, expression: dict, anno_id: str, frame_idx: int) -> str:
        """Name a mask for an error message: file, video, expression, annotation and frame."""
        return (f'{self.path}: video {expression["video_id"]!r}, expression '
                f'{expression["exp_id"]!r}, anno {anno_id!r}, frame {frame_idx}')


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
