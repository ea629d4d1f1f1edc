"""Masks as COCO RLE, written as they come."""

import json
from collections.abc import Sequence
from pathlib import Path

from glus_mm.models.inference import MaskPrediction
from glus_mm.utils.masks import encode_mask


class RLEMaskWriter:
    """Write a line of JSON for each mask; use it as a context manager.

    A line is ``{"frame": 3, "name": "00003", "exp": 0, "size": [H, W], "counts": "...", "score":
    0.93}``: ``size`` and ``counts`` are COCO's RLE, ``exp`` counts the texts. Lines come in the
    order of the work, which with a key frame in the middle is not that of the frames.

    Args:
        path: the file, replaced if it exists.
        frame_names: (T) names of the frames.

    Raises:
        OSError: it cannot be written.
    """

    def __init__(self, path: Path, frame_names: Sequence[str]) -> None:
        self.frame_names = frame_names
        # Line by line, so that what was made is there whatever ends the process.
        self._file = open(path, 'w', encoding='utf-8', buffering=1)  # noqa: SIM115

    def __call__(self, frame_idx: int, exps: list[int], pred: MaskPrediction) -> None:
        """Write the masks of a frame."""
        scores = pred.scores.float().cpu().tolist()
        for e, mask, score in zip(exps, pred.masks.cpu().numpy(), scores):
            line = dict(frame=frame_idx, name=self.frame_names[frame_idx], exp=e,
                        **encode_mask(mask), score=score)
            self._file.write(json.dumps(line) + '\n')

    def __enter__(self) -> 'RLEMaskWriter':
        """Itself."""
        return self

    def __exit__(self, *args: object) -> None:
        """Close the file."""
        self._file.close()
