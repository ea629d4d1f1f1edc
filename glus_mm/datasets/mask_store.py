"""Masks in one JSON file, as MeViS and others have them."""

from os import PathLike
from typing import Any

from glus_mm.datasets.mask_source import MaskSource
from glus_mm.utils.json_index import JSONIndex
from glus_mm.utils.masks import check_rle, check_size


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
