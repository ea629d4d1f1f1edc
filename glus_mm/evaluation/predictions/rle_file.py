"""Predictions as run lengths in one JSON file."""

from collections.abc import Sequence
from os import PathLike
from typing import Any, NamedTuple

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from glus_mm.evaluation.predictions.prediction_tree import (
    FrameFolder,
    PredictionSource,
    TreeScan,
    names_of,
)
from glus_mm.utils.json_index import JSONIndex
from glus_mm.utils.masks import check_rle, check_size, compress_runs

MASK_KEYS = ('prediction_masks', 'segmentations', 'segmentation', 'masks_rle', 'masks', 'rles')
VIDEO_KEYS = ('video_id', 'video', 'video_name', 'vid')
EXPRESSION_KEYS = ('exp_id', 'expression_id', 'expression', 'qid')
FRAME_KEYS = ('frame', 'frame_name', 'frame_id', 'file_name')


class _Item(NamedTuple):
    """Where some masks are: in the value of ``key``, under ``path``.

    Attributes:
        key: of the value in the file.
        path: keys in the value.
        count: number of masks; None = the place holds one mask and not a list.
        frames: the frames that they are of, where the file names them.
    """

    key: str | int
    path: tuple[str, ...]
    count: int | None
    frames: tuple[str, ...] | None


class RLEFile(PredictionSource):
    """Masks of all expressions in one JSON file, as COCO run lengths.

    The file is one of

    - ``{video: {exp: masks}}``, as Sa2VA writes it, or ``{"<video>_<exp>": masks}``;
    - a list of entries with ``video_id``, ``exp_id`` and the masks of all frames, as results of
      YouTube-VIS have them;
    - a list of entries with ``video_id``, ``exp_id``, ``frame`` and the mask of that frame, as
      results of COCO have them. A frame without an entry is missing.

    Masks are a list with an RLE or null (nothing) for each frame, or an object with such a list
    under one of ``MASK_KEYS`` and, where there is one, a list of the names of the ``frames``.
    RLEs are compressed, or have a list of run lengths.

    The file is parsed once from front to back, value by value; kept are the entries of the values,
    and those of the last few that were read.

    Args:
        path: the file.
        folders, extra: see :class:`PredictionSource`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: ``extra`` is unknown, or the file has another form.
    """

    def __init__(self, path: str | PathLike, folders: Sequence[FrameFolder],
                 extra: str = 'warn') -> None:
        super().__init__(path, folders, extra)
        self._positions = {(folder.video, folder.parts[-1]): position
                           for position, folder in enumerate(self.folders)}
        self._pairs = {f'{video}_{exp}': (video, exp) for video, exp in self._positions}
        self._items: dict[int, list[_Item]] = {}
        self._extra: dict[str, None] = {}
        self._last: tuple[int, dict[str, tuple[_Item, int]]] | None = None
        self._index = JSONIndex(path, self._note, arrays=True)

    def scan(self) -> TreeScan:
        """Compare the entries with what should be there; see the base class."""
        missing = {}
        for position, folder in enumerate(self.folders):
            entries = self._items_of(position)
            if len(entries) < len(folder.frames):
                missing[position] = [frame for frame in folder.frames if frame not in entries]
        return self._found(missing, list(self._extra))

    def locate(self, position: int, frame: str) -> str:
        """The file; see the base class."""
        return str(self.root)

    def read(self, position: int, frame: str, size: tuple[int, int] | None) -> np.ndarray:
        """Decode an RLE to 0 and 255; see the base class."""
        rle = self._rle(position, frame)
        if rle is None:
            return np.zeros(size or (1, 1), dtype=np.uint8)
        return _decode(rle, size, f'{self.root}: {self.folders[position].where}', frame)

    def size(self, position: int, frame: str) -> tuple[int, int] | None:
        """Size of an RLE; None where there is null. See the base class."""
        return None if self._rle(position, frame) is None else super().size(position, frame)

    def _rle(self, position: int, frame: str) -> Any:
        """What the file holds for a frame."""
        if self._last is None or self._last[0] != position:
            self._last = (position, self._items_of(position))
        item, place = self._last[1][frame]
        value = self._index[item.key]
        for key in item.path:
            value = value[key]
        return value if item.count is None else value[place]

    def _items_of(self, position: int) -> dict[str, tuple[_Item, int]]:
        """By frame, where its mask is."""
        folder = self.folders[position]
        where = f'{self.root}: {folder.where}'
        known = set(folder.frames)
        entries: dict[str, tuple[_Item, int]] = {}
        for item in self._items.get(position, ()):
            frames = folder.frames if item.frames is None else item.frames
            if item.count is not None and item.count != len(frames):
                raise ValueError(f'{where}: expected a mask or null for each of the {len(frames)} '
                                 f'frames, got {item.count}')
            for place, frame in enumerate(frames):
                if frame not in known:
                    raise ValueError(f'{where}: expected only masks of the {len(known)} frames '
                                     f'({names_of(folder.frames)}), got {frame!r}')
                if frame in entries:
                    raise ValueError(f'{where}, frame {frame!r}: expected one mask, got two')
                entries[frame] = (item, place)
        return entries

    def _note(self, key: str | int, value: Any) -> None:
        """Note the masks in a value of the file."""
        where = f'{self.root}: {"entry" if isinstance(key, int) else "key"} {key!r}'
        if isinstance(key, int):
            video, expression = _name(value, VIDEO_KEYS, where), None
            if isinstance(value, dict) and any(name in value for name in EXPRESSION_KEYS):
                expression = _name(value, EXPRESSION_KEYS, where)
            pair = self._pairs.get(video) if expression is None else (video, expression)
            if pair is None:
                raise ValueError(f'{where}: expected one of the keys {", ".join(EXPRESSION_KEYS)} '
                                 f'with the expression, got {sorted(value)[:8]}')
            self._add(pair, value, key, (), where)
        elif key in self._pairs:
            self._add(self._pairs[key], value, key, (), where)
        elif isinstance(value, dict) and not any(name in value for name in MASK_KEYS):
            for exp_id, masks in value.items():
                self._add((key, _text(exp_id)), masks, key, (_text(exp_id), ),
                          f'{where}, {_text(exp_id)!r}')
        elif isinstance(value, (dict, list)):
            self._extra[key] = None
        else:
            raise ValueError(f'{where}: expected the masks of a video or expression, got '
                             f'{str(value)[:80]}')

    def _add(self, pair: tuple[str, str], masks: Any, key: str | int, path: tuple[str, ...],
             where: str) -> None:
        """Note the masks of an expression, or that nobody asked for them."""
        frames = None
        if isinstance(masks, dict):
            names = [name for name in MASK_KEYS if name in masks]
            if len(names) != 1:
                raise ValueError(f'{where}: expected masks under one of {", ".join(MASK_KEYS)}, '
                                 f'got {sorted(masks)[:8]}')
            if masks.get('frames') is not None:
                frames = masks['frames']
                if not (isinstance(frames, list) and all(isinstance(f, str) for f in frames)):
                    raise ValueError(f"{where}, key 'frames': expected names of frames, got "
                                     f'{str(frames)[:80]}')
            elif not isinstance(masks[names[0]], list):
                frames = [_name(masks, FRAME_KEYS, where)]
            path, masks = (*path, names[0]), masks[names[0]]
        elif not isinstance(masks, list):
            raise ValueError(f'{where}: expected a list with an RLE or null for each frame, got '
                             f'{str(masks)[:80]}')
        if pair not in self._positions:
            self._extra['/'.join(pair)] = None
            return
        names_known = None if frames is None else tuple(_stem(_text(frame)) for frame in frames)
        count = len(masks) if isinstance(masks, list) else None
        self._items.setdefault(self._positions[pair], []).append(
            _Item(key, path, count, names_known))


def _name(entry: Any, keys: Sequence[str], where: str) -> str:
    """The id under the first of some keys that an entry has."""
    found = [key for key in keys if isinstance(entry, dict) and key in entry]
    if not found:
        got = sorted(entry)[:8] if isinstance(entry, dict) else str(entry)[:80]
        raise ValueError(f'{where}: expected one of the keys {", ".join(keys)}, got {got}')
    value = entry[found[0]]
    if type(value) not in (int, str):
        raise ValueError(f'{where}, key {found[0]!r}: expected text or a number, got '
                         f'{str(value)[:80]}')
    return _text(str(value))


def _text(name: str) -> str:
    """A text as it is, of one whose bytes were taken for characters; see :class:`JSONIndex`."""
    try:
        return name.encode('latin-1').decode('utf-8')
    except UnicodeError:
        return name


def _stem(frame: str) -> str:
    """Name of a frame without its folders and the suffix of an image."""
    name = frame.rsplit('/', 1)[-1]
    return next((name.removesuffix(s) for s in ('.jpg', '.jpeg', '.png') if name.endswith(s)), name)


def _decode(rle: Any, size: tuple[int, int] | None, where: str, frame: str) -> np.ndarray:
    """Check and decode an RLE to a mask of 0 and 255."""
    counts = rle.get('counts') if isinstance(rle, dict) else None
    if isinstance(counts, list):
        rle = compress_runs(rle, where, frame)
    check_rle(dict(rle, size=list(rle['size'])) if isinstance(rle, dict) and isinstance(
        rle.get('size'), (list, tuple)) else rle, where, frame)
    check_size(rle, size or tuple(rle['size']), f'{where}, frame {frame!r}')
    # Row by row: OpenCV copies what is stored column by column, in every call.
    return cv2.transpose(coco_mask.decode(rle).T) * np.uint8(255)
